"""``resight train`` and ``resight resume``: from a data set to a sealed Run."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight import samples as data_sets
from resight.commands.extras import need
from resight.errors import DataError, OutOfMemory, RunError, StorageError, UsageError
from resight.runs import CHECKPOINTS, CONFIG, SPLIT, Architecture, Run, RunCard
from resight.runs.storage import exclusive, storage_errors, write_atomic


def train(
    data: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    recipe: str | None = None,
    epochs: float | None = None,
    budget: str | float | None = None,
    image_size: int | None = None,
    batch: int | str | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> Run:
    """Trains a classifier on a data set and returns its sealed Run.

    data: a folder of classes, split folders, a CSV, idx or CIFAR binary files. budget: ``"20m"`` or seconds,
    instead of epochs. batch: pictures in one update, or ``"auto"``: the recipe's, with the micro-batch chosen by
    the memory there is. out: the Run's directory, by default ``runs/DATA-MODEL-N``. set: any field of
    :class:`resight.recipes.TrainConfig` by its dotted name.

    Raises UsageError, DataError (before anything is written), TrainingError, Interrupted.
    """
    need("training", "train", "torch", "accelerate", "pydantic")
    if epochs is not None and budget is not None:
        raise UsageError("--epochs and --budget exclude each other: one of them says how long to train")
    wishes: dict[str, Any] = {
        "model.name": model,
        "model.weights": str(weights) if weights and str(weights) != "none" else None,
        "epochs": epochs,
        "budget_seconds": None if budget is None else seconds_of(budget),
        "data.image_size": image_size,
        "auto_batch": True if batch == "auto" else None,
        "batch": None if batch in (None, "auto") else _whole("batch", batch),
        "optimizer.lr": lr,
        "seed": seed,
        "device": device,
        "precision": precision,
        "data.workers": workers,
        "data.skip_bad": True if skip_bad else None,
    }
    wishes = {name: value for name, value in wishes.items() if value is not None} | dict(set or {})
    recipe = wishes.pop("recipe", recipe)
    if "data.path" in wishes:
        raise UsageError("data.path is the data set to train on, not an option")
    from resight.training.distributed import broadcast_path, is_main
    from resight.training.progress import reporter

    report = reporter(is_main())
    run_path = _create(data, wishes, recipe, out, report.say).path if is_main() else None
    return _finish(broadcast_path(run_path), report)


def resume(run: str | Path) -> Run:
    """Continues a training exactly where its newest whole checkpoint was made; returns the sealed Run.

    A finished Run is returned as it is. Raises RunError, RunLocked, DataError when the data changed.
    """
    need("training", "train", "torch", "accelerate", "pydantic")
    from resight.training.distributed import is_main
    from resight.training.progress import reporter

    return _finish(Path(run), reporter(is_main()))


def seconds_of(budget: str | float) -> float:
    """``"90s"``, ``"20m"``, ``"1.5h"`` or plain seconds. Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smh]?)\s*", str(budget))
    if not match or float(match[1]) <= 0:
        raise UsageError(f"the budget {budget!r} is not a duration", hint="for example 90s, 20m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"--{name} must be a whole number or 'auto', not {value!r}") from None


def _create(
    data: str | Path,
    wishes: dict[str, Any],
    recipe: str | None,
    out: str | Path | None,
    say: Callable[[str], None],
) -> Run:
    """Checks the data, decides everything that can be decided without training, makes the Run's directory."""
    from resight.models import parameter_count
    from resight.training import machine, named, prepare

    asked = prepare.first_look(wishes, recipe)
    if asked.tensorboard:
        need("--set tensorboard=true", "tensorboard", "tensorboard")
    data = named.data_path(data)
    samples = data_sets.load(
        data, seed=asked.seed, val_fraction=asked.data.val_fraction, test_fraction=asked.data.test_fraction
    )
    for warning in samples.warnings:
        say(f"note: {warning}")
    samples, checked = prepare.check(samples, asked.data.skip_bad, say)
    config, _ = prepare.configure(samples, checked.sizes, wishes, recipe)
    prepare.with_path(config, data)
    if not config.data.mean:
        pictures = prepare.train_pictures(samples, config)
        config.data.mean, config.data.std = prepare.measure(pictures, config.data.channels, config.seed)
    config.threads = machine.set_threads(config.threads)
    if not config.budget_seconds:
        prepare.resolve_steps(config, len(samples.part("train")))
    net = prepare.build_net(config, len(samples.classes), None, say)
    card = RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options), parameter_count(net)),
        classes=samples.classes,
        channels=config.data.channels,
        geometry=prepare.geometry_of(config),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        recipe=config.recipe,
        seed=config.seed,
        threads=config.threads,
        data=prepare.counts(samples),
        environment=machine.environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    run = Run.create(Path(out) if out else _free_name(data, config.model.name), card)
    write_atomic(run.path / CONFIG, config.to_json())
    data_sets.split_csv.write(run.path / SPLIT, samples)
    counts = card.data["counts"]
    say(
        f"{run.path}: {config.model.name}, {card.architecture.parameters:,} parameters, "
        f"{config.data.image_size} px, {len(samples.classes)} classes, "
        f"{counts['train']:,} / {counts['val']:,} / {counts['test']:,} pictures to train / validate / test; "
        f"recipe {config.recipe}, {config.device} {config.precision}, {config.threads} threads"
    )
    return run


def _free_name(data: str | Path, model: str) -> Path:
    """A new directory ``runs/DATA-MODEL-N`` with the first N that is free."""
    stem = re.sub(r"[^\w.-]+", "-", Path(data).resolve().name.removesuffix(".csv")).strip("-.") or "data"
    for number in itertools.count(1):
        path = Path("runs") / f"{stem}-{model}-{number}"
        try:
            with storage_errors(path):
                path.mkdir(parents=True)  # taken at once: two trainings that start together get two names
        except StorageError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
        else:
            break
    return path


def _finish(path: Path, report: Any) -> Run:
    """Trains from where the Run stands to its seal: the one way for new and for resumed trainings."""
    from resight.exporting.seal import seal
    from resight.training import distributed, prepare

    run = Run.open(path, sealed=False)
    if run.card.status == "sealed":
        report.say(f"{path} is finished: nothing to do")
        return run
    main = distributed.is_main()
    with exclusive(path) if main else nullcontext():
        run = Run.open(path, sealed=False)  # again: another process may have gone on until just now
        config = _config(run)
        _same_settings(run, config)
        samples = _samples(run, config)
        if run.card.status == "training":
            _fit(run, config, samples, report)
            distributed.wait()
            if main:
                run.set_status("trained")
        if main:
            objective = _best(run, config, samples)
            val = prepare.eval_pictures(samples, "val", config)
            seal(run, objective.net, samples, _logits(objective, val), report.say)
            _summary(run, report.say)
        distributed.wait()
    return Run.open(path)


def _config(run: Run) -> Any:
    from resight.recipes import TrainConfig

    return TrainConfig.from_json(run.file(CONFIG).read_bytes(), str(run.path / CONFIG))


def _samples(run: Run, config: Any) -> data_sets.SampleSet:
    """The data as they were split. Raises DataError with a diff when they or their classes changed."""
    from resight.samples.model import show_names

    samples = data_sets.load(config.data.path, split_csv=run.file(SPLIT))
    if samples.classes != run.classes:
        raise DataError(
            f"the classes changed since {run.path} was started: it has {show_names(run.classes)}; "
            f"the data have {show_names(samples.classes)}",
            hint="restore the folders, or start a new training",
        )
    if samples.fingerprint() != run.card.data["fingerprint"]:
        raise DataError(
            f"the pictures in {config.data.path} changed since {run.path} was started: the same names, other content",
            hint="restore the pictures, or start a new training",
        )
    return samples


def _same_settings(run: Run, config: Any) -> None:
    """Raises RunError with a diff when config.json no longer says what the Run was started as."""
    from resight.training import prepare

    card = run.card
    model = card.architecture
    pairs = {
        "model": ((model.name, model.options), (config.model.name, config.model.options)),
        "geometry": (card.geometry, prepare.geometry_of(config)),
        "channels": (card.channels, config.data.channels),
        "mean": (list(card.mean), config.data.mean),
        "std": (list(card.std), config.data.std),
        "seed": (card.seed, config.seed),
    }
    changed = [f"{name} was {was} and is {now}" for name, (was, now) in pairs.items() if was != now]
    if changed:
        raise RunError(
            f"{run.path / CONFIG} was changed since the training was started: {'; '.join(changed)}",
            hint="restore it, or start a new training",
        )


def _fit(run: Run, config: Any, samples: data_sets.SampleSet, report: Any) -> None:
    """Runs the loop; when memory runs out, once more from the last checkpoint with half the micro-batch."""
    from resight.training.fit import is_out_of_memory, newest
    from resight.training.progress import TensorBoard

    if config.tensorboard and report.writes:
        report = TensorBoard(report, run.path / "tensorboard")
    micro_batch = 0
    while True:
        checkpoint = newest(run, report.say)
        training = _training(run, config, samples, report, fresh=checkpoint is None)
        if checkpoint is not None:
            training.restore(checkpoint)
        training.state.micro_batch = micro_batch or training.state.micro_batch
        try:
            training.fit()
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if training.accelerator.num_processes > 1:
                raise OutOfMemory(
                    f"memory ran out with {training.state.micro_batch} pictures at a time in each process",
                    hint="start again with --batch auto, or a smaller --set micro_batch=N",
                ) from error
            micro_batch = -(-training.state.micro_batch // 2)
            if training.state.micro_batch == 1:
                raise OutOfMemory(
                    "memory ran out even with one picture at a time",
                    hint="use a smaller --model or --image-size, or --set model.checkpointing=true",
                ) from error
        del training
        report.say(
            f"memory ran out: going on with {micro_batch} pictures at a time. Updates still use "
            f"{config.batch} pictures; BatchNorm now sees {micro_batch} at once, which changes results slightly"
        )


def _training(run: Run, config: Any, samples: data_sets.SampleSet, report: Any, *, fresh: bool) -> Any:
    from resight.models import read_weights
    from resight.training import machine, prepare
    from resight.training.fit import Training
    from resight.training.objective import Supervised

    machine.set_threads(config.threads)
    machine.keep_memory()
    train_set = prepare.train_pictures(samples, config)
    val_set = prepare.eval_pictures(samples, "val", config)

    def build(say: Callable[[str], None]) -> Training:
        weights = config.model.weights if fresh else None
        source = read_weights(weights, config.model.name) if weights else None
        net = prepare.build_net(config, len(samples.classes), source, say)
        return Training(run, config, Supervised(net, config), train_set, val_set, report)

    if config.total_steps == 0 or (config.auto_batch and config.micro_batch == 0):
        _estimate(run, config, build, report.say)
    return build(report.say)


def _estimate(run: Run, config: Any, build: Callable[..., Any], say: Callable[[str], None]) -> None:
    """Decides what must be measured, and freezes it in config.json: the micro-batch, and steps for a budget."""
    from resight.training import distributed
    from resight.training.estimate import micro_batch_for, steps_for

    if config.auto_batch and config.micro_batch == 0:
        trial = build(lambda _: None)
        share = config.batch // trial.accelerator.num_processes
        fits = micro_batch_for(trial.objective, config, share, trial.device)
        config.micro_batch = distributed.smallest(fits)
        say(f"batch: {config.batch} pictures an update, {config.micro_batch} at a time")
    if config.total_steps == 0:
        config.total_steps = 1_000_000  # the schedule needs a number while the speed is measured
        trial = build(lambda _: None)
        config.total_steps = distributed.smallest(steps_for(trial, config.budget_seconds))
        epochs = config.total_steps / trial.loader.steps_per_epoch
        config.epochs = epochs
        say(f"budget: {config.total_steps} steps ({epochs:.1f} epochs) fit into {config.budget_seconds:.0f} s")
    if distributed.is_main():
        write_atomic(run.path / CONFIG, config.to_json())


def _best(run: Run, config: Any, samples: data_sets.SampleSet) -> Any:
    """The network with the best weights by validation: the averaged ones where averaging is on."""
    from resight.errors import RunError
    from resight.training import prepare
    from resight.training.checkpoint import load_checkpoint
    from resight.training.fit import newest
    from resight.training.objective import Supervised

    last = newest(run, lambda _: None)
    if last is None or last.state.best_name is None:
        raise RunError(f"{run.path} has no whole checkpoint to finish from", hint="train again")
    best = load_checkpoint(run.path / CHECKPOINTS / last.state.best_name)
    net = prepare.build_net(config, len(samples.classes), None, lambda _: None)
    net.load_state_dict(best.average or best.weights)
    return Supervised(net, config)


def _logits(objective: Any, pictures: Any) -> Any:
    import numpy as np

    from resight.training.validate import answers

    parts = answers(objective, pictures, np.arange(len(pictures)), 64)
    return np.concatenate([part.cpu().numpy() for part in parts])


def _summary(run: Run, say: Callable[[str], None]) -> None:
    from resight.evaluation import Evaluation

    part = run.metrics.part
    say(f"\n{part} part\n{Evaluation.from_dict(run.card.metrics[part]).to_text(max_classes=20)}")
    say(f"\nthe Run lies in {run.path}{os.sep}\n  try: resight predict {run.path} PICTURES")
