"""``resight train``: from a data set to a sealed Run."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight import samples as data_sets
from resight.commands.extras import need
from resight.commands.resume import finish
from resight.doctor import first_look
from resight.errors import StorageError, UsageError
from resight.images import printable
from resight.runs import CONFIG, SPLIT, WEIGHTS, Architecture, Run, RunCard
from resight.runs.storage import storage_errors, write_atomic


def train(
    data: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    from_run: str | Path | None = None,
    keep_absent: bool = False,
    recipe: str | None = None,
    epochs: float | None = None,
    budget: str | float | None = None,
    image_size: int | None = None,
    channels: int | None = None,
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

    data: a folder of classes, split folders, a CSV, idx or CIFAR binary files. from_run: a Run to continue with new
    classes or new pictures; keep_absent: also its classes that have no pictures here (docs/continue.md). budget:
    ``"20m"`` or seconds, instead of epochs. channels: of the pictures, by default decided by the files
    (docs/channels.md). batch: pictures in one update, or ``"auto"``: the recipe's, with the micro-batch chosen by the
    memory there is. out: the Run's directory, by default ``runs/DATA-MODEL-N``. set: any field of
    :class:`resight.recipes.TrainConfig` by its dotted name.

    Raises UsageError, DataError (before anything is written), TrainingError, Interrupted.
    """
    if keep_absent and from_run is None:
        raise UsageError("--keep-absent is about the classes of a Run that is continued", hint="add --from RUN")
    need("training", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")  # the last two: report.html
    if epochs is not None and budget is not None:
        raise UsageError("--epochs and --budget exclude each other: one of them says how long to train")
    wishes: dict[str, Any] = {
        "model.name": model,
        "model.weights": str(weights) if weights and str(weights) != "none" else None,
        "epochs": epochs,
        "budget_seconds": None if budget is None else seconds_of(budget),
        "data.image_size": image_size,
        "data.channels": channels,
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
    from resight.training import continuing
    from resight.training.distributed import broadcast_path, is_main
    from resight.training.progress import reporter

    report = reporter(is_main())
    base = None if from_run is None else continuing.open_base(from_run, keep_absent)
    run_path = _create(data, wishes, recipe, out, report.say, base).path if is_main() else None
    return finish(broadcast_path(run_path), report)


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
    base: Any = None,
) -> Run:
    """Checks the data, decides everything that can be decided without training, makes the Run's directory.

    base: the ``continuing.Base`` of a Run that is continued, or None.
    """
    from resight.models import parameter_count
    from resight.training import continuing, machine, named, prepare

    wishes = wishes if base is None else base.wishes(wishes)
    settings = None if base is None else continuing.renewed(base)
    asked = prepare.first_look(wishes, recipe, settings)
    if asked.tensorboard:
        need("--set tensorboard=true", "tensorboard", "tensorboard")
    data = named.data_path(data)
    samples = data_sets.load(
        data,
        seed=asked.seed,
        val_fraction=asked.data.val_fraction,
        test_fraction=asked.data.test_fraction,
        classes=() if base is None else base.run.classes,
        known=None if base is None else base.known_parts(Path(data)),
    )
    for warning in samples.warnings:
        say(f"note: {warning}")
    samples, checked = prepare.check(samples, asked.data.skip_bad, say, asked.data.channels)
    doubts = first_look(samples, checked)
    for doubt in doubts:
        say(f"note: {doubt}")
    if doubts or checked.misnamed:
        say(f"more, with pictures and remedies: resight doctor {shlex.quote(printable(str(data)))}")
    told: dict[str, Any] = {}
    if base is not None:
        told = continuing.describe(base, samples)
        for line in continuing.lines(base, samples, checked, told):
            say(line)
    config, source = prepare.configure(samples, checked.sizes, wishes, recipe, settings)
    prepare.with_path(config, data)
    if not config.data.mean:
        pictures = prepare.train_pictures(samples, config, say)
        config.data.mean, config.data.std = prepare.measure(pictures, config.data.channels, config.seed)
    config.threads = machine.set_threads(config.threads)
    if not config.budget_seconds:
        prepare.resolve_steps(config, len(samples.part("train")))
    # With the weights, so that those that do not fit are refused before anything is written.
    net = prepare.build_net(config, len(samples.classes), source, lambda _: None)
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
        source="" if base is None else f"continues {base.run.path}, {WEIGHTS} with sha256 {told['sha256']}",
        continues=told,
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
    if source is not None and base is None:
        say(f"starting from {source.description}")
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
