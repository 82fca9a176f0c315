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
from resight.runs import CONFIG, SPLIT, Architecture, Run, RunCard
from resight.runs.storage import storage_errors, write_atomic


def train(
    data: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    teacher: str | Path | None = None,
    balance: str | None = None,
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
    the memory there is. teacher: a sealed Run of the same classes, to learn from beside the labels. balance: what is
    done about classes of different size: ``none``, ``weights``, ``sampling``, ``logit`` or ``focal``. out: the Run's
    directory, by default ``runs/DATA-MODEL-N``. set: any field of :class:`resight.recipes.TrainConfig` by its dotted
    name.

    Raises UsageError, DataError (before anything is written), TrainingError, Interrupted.
    """
    need("training", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")  # the last two: report.html
    from resight.recipes import balance_wishes
    from resight.training.distributed import broadcast_path, is_main
    from resight.training.progress import reporter

    if epochs is not None and budget is not None:
        raise UsageError("--epochs and --budget exclude each other: one of them says how long to train")
    wishes: dict[str, Any] = {
        "model.name": model,
        "model.weights": str(weights) if weights and str(weights) != "none" else None,
        "distill.teacher": str(teacher) if teacher else None,
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
    if balance is not None:
        wishes |= balance_wishes(balance, wishes)
    recipe = wishes.pop("recipe", recipe)
    if "data.path" in wishes:
        raise UsageError("data.path is the data set to train on, not an option")
    report = reporter(is_main())
    run_path = _create(data, wishes, recipe, out, report.say).path if is_main() else None
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
) -> Run:
    """Checks the data, decides everything that can be decided without training, makes the Run's directory."""
    from resight.models import parameter_count
    from resight.training import distill, machine, named, prepare
    from resight.training.balance import balances, remark

    asked = prepare.first_look(wishes, recipe)
    if asked.tensorboard:
        need("--set tensorboard=true", "tensorboard", "tensorboard")
    data = named.data_path(data)
    samples = data_sets.load(
        data, seed=asked.seed, val_fraction=asked.data.val_fraction, test_fraction=asked.data.test_fraction
    )
    for warning in samples.warnings:
        say(f"note: {warning}")
    wishes |= distill.adopted(asked, samples.classes, say)
    samples, checked = prepare.check(samples, asked.data.skip_bad, say)
    doubts = first_look(samples, checked, balanced=balances(asked))
    for doubt in doubts:
        say(f"note: {doubt}")
    if doubts or checked.misnamed:
        say(f"more, with pictures and remedies: resight doctor {shlex.quote(printable(str(data)))}")
    config, source = prepare.configure(samples, checked.sizes, wishes, recipe)
    prepare.with_path(config, data)
    if note := remark(config, samples.counts()["train"]):
        say(f"note: {note}")
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
    if source is not None:
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
