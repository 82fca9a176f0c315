"""The start of a training, in steps: look at the data, decide everything, make the Run's directory."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight import samples as data_sets
from resight.commands.extras import need
from resight.commands.imposed import imposed_split
from resight.commands.own_data import count_learned, run_at
from resight.doctor import first_look
from resight.errors import RunError, StorageError, UsageError
from resight.images import MAX_PIXELS, MAX_TILED_PIXELS, printable
from resight.runs import CONFIG, SPLIT, WEIGHTS, Architecture, Run, RunCard
from resight.runs.storage import storage_errors, write_atomic

if TYPE_CHECKING:
    from resight.models import Source
    from resight.recipes import TrainConfig
    from resight.training.continuing import Base

Say = Callable[[str], None]


@dataclass(frozen=True)
class Looked:
    """A data set that was checked.

    path: where it lies. sizes: int64 (n, 2), width and height of its pictures. base: the Run that is continued, and
    told: what the new card will say of it.
    """

    path: Path
    samples: data_sets.SampleSet
    sizes: Any
    base: Base | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


def start(
    data: str | Path,
    wishes: dict[str, Any],
    recipe: str | None,
    out: str | Path | None,
    say: Say,
    split: str | Path | None = None,
    base: Base | None = None,
) -> Run:
    """All of it: the directory of a training that can begin. Raises what the three steps raise."""
    looked = look(data, wishes, recipe, say, split, base)
    config, source = decide(looked, wishes, recipe, say)
    return make_run(looked, config, source, out, say)


def look(
    data: str | Path,
    wishes: dict[str, Any],
    recipe: str | None,
    say: Say,
    split: str | Path | None = None,
    base: Base | None = None,
) -> Looked:
    """Loads a data set, split as the wishes say, as ``split`` was, or as the Run that is continued has it, and decodes
    every picture once.

    What a teacher decides is added to the wishes. Raises UsageError, DataError.
    """
    from resight.training import continuing, distill, named, prepare
    from resight.training.balance import balances

    asked = prepare.first_look(wishes, recipe, None if base is None else continuing.renewed(base))
    if asked.tensorboard:
        need("--set tensorboard=true", "tensorboard", "tensorboard")
    data = named.data_path(data)
    if base is not None:
        base = base.found_in(data)
    if split is not None:
        samples = imposed_split(data, split, wishes)
    else:
        samples = data_sets.load(
            data,
            seed=asked.seed,
            val_fraction=asked.data.val_fraction,
            test_fraction=asked.data.test_fraction,
            classes=() if base is None else base.run.classes,
            known=None if base is None else base.known_parts(data),
        )
    for warning in samples.warnings:
        say(f"note: {warning}")
    wishes |= distill.adopted(asked, samples.classes, say)
    weights = run_at(asked.model.weights)  # what a Run's weights bring, unless a wish says otherwise
    kind = asked.data.geometry if weights is None else wishes.get("data.geometry", weights.card.geometry.kind)
    largest = MAX_TILED_PIXELS if kind == "tiles" else MAX_PIXELS
    samples, checked = prepare.check(samples, asked.data.skip_bad, say, asked.data.channels, largest)
    doubts = first_look(samples, checked, balanced=balances(asked))
    for doubt in doubts:
        say(f"note: {doubt}")
    if doubts or checked.misnamed:
        say(f"more, with pictures and remedies: resight doctor {shlex.quote(printable(str(data)))}")
    if base is None:
        for option, named_run in (("teacher", asked.distill.teacher), ("weights", asked.model.weights)):
            for line in known_already(option, named_run, samples):
                say(line)
        return Looked(data, samples, checked.sizes)
    if samples.task == "multi":
        raise UsageError(
            "--from continues Runs of one class a picture; these pictures have any number of labels",
            hint=f"take the weights alone: --weights {base.run.path}",
        )
    told = continuing.describe(base, samples)
    for line in continuing.lines(base, samples, checked, told):
        say(line)
    return Looked(data, samples, checked.sizes, base, told)


def known_already(option: str, named: str | None, samples: data_sets.SampleSet) -> list[str]:
    """A warning where a Run, or the Run that a weights file lies in, learned from what is validated or tested here."""
    run = run_at(named)
    if run is None:
        return []
    judged = [i for i, sample in enumerate(samples.samples) if sample.split != "train"]
    try:
        known = count_learned(run, samples, judged)
    except RunError as error:
        return [f"warning: whether --{option} learned from pictures that are tested here is not known: {error.message}"]
    if not known:
        return []
    shown = printable(str(run.path))
    if run.card.task == "features":
        return [
            f"note: --{option} {shown} saw, without labels, {known:,} of the {len(judged):,} pictures that are "
            f"validated or tested here. Split as it did: --split {shown}"
        ]
    return [
        f"warning: --{option} {shown} learned from {known:,} of the {len(judged):,} pictures that are validated or "
        f"tested here: results will be too good. Split as it did: --split {shown}"
    ]


def decide(looked: Looked, wishes: dict[str, Any], recipe: str | None, say: Say) -> tuple[TrainConfig, Source | None]:
    """The complete configuration for checked data, the number of steps included unless it must be measured; and the
    weights to start from. Raises UsageError."""
    from resight.training import continuing, distill, machine, objectives, prepare, reading, room
    from resight.training.balance import remark

    samples, base = looked.samples, looked.base
    settings = None if base is None else continuing.renewed(base)
    config, source = prepare.configure(samples, looked.sizes, wishes, recipe, settings)
    if base is not None and config.transfer.rung != "none":
        raise UsageError(
            f"--from keeps what the last layer of {base.run.path} has learned; the recipe {config.recipe} replaces it",
            hint=f"leave the recipe out, or take the weights alone: --weights {base.run.path}",
        )
    if config.distill.teacher:
        distill.open_teacher(config, samples.classes)  # now that channels are decided
    prepare.with_path(config, looked.path)
    if note := remark(config, samples.counts()["train"]):
        say(f"note: {note}")
    if not config.data.mean:
        pictures = reading.train_pictures(samples, config, say)
        config.data.mean, config.data.std = reading.measure(pictures, config.data.channels, config.seed)
    objectives.check_processes(config)
    config.threads = machine.set_threads(config.threads)
    room.decide(config, samples, looked.sizes, wishes, say)
    if not config.budget_seconds and config.transfer.rung != "features":
        prepare.resolve_steps(config, len(samples.part("train")))
    return config, source


def card_of(looked: Looked, config: TrainConfig, source: Source | None) -> RunCard:
    """What run.json will say of a training that starts now. Raises WeightsError for weights that do not fit."""
    from resight.models import parameter_count
    from resight.training import machine, prepare, reading

    samples, base, told = looked.samples, looked.base, dict(looked.told)
    # With the weights, so that those that do not fit are refused before anything is written.
    net = prepare.build_net(config, len(samples.classes), source, lambda _: None)
    return RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options), parameter_count(net)),
        classes=samples.classes,
        channels=config.data.channels,
        geometry=reading.geometry_of(config),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        task=config.task,
        recipe=config.recipe,
        seed=config.seed,
        threads=config.threads,
        data=prepare.counts(samples),
        environment=machine.environment(),
        source="" if base is None else f"continues {base.run.path}, {WEIGHTS} with sha256 {told['sha256']}",
        continues=told,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def make_run(looked: Looked, config: TrainConfig, source: Source | None, out: str | Path | None, say: Say) -> Run:
    """Makes the directory of a training that can start: card, configuration and split. out: None takes a free name."""
    samples, card = looked.samples, card_of(looked, config, source)
    run = Run.create(Path(out) if out else free_name(looked.path, config.model.name), card)
    write_atomic(run.path / CONFIG, config.to_json())
    data_sets.split_csv.write(run.path / SPLIT, samples)
    counts = card.data["counts"]
    say(
        f"{run.path}: {config.model.name}, {card.architecture.parameters:,} parameters, "
        f"{config.data.image_size} px, {len(samples.classes)} classes"
        f"{', any number of them a picture, ' if config.task == 'multi' else ', '}"
        f"{counts['train']:,} / {counts['val']:,} / {counts['test']:,} pictures to train / validate / test; "
        f"recipe {config.recipe}, {config.device} {config.precision}, {config.threads} threads"
    )
    if source is not None and looked.base is None:
        say(f"starting from {source.description}")
    return run


def free_name(data: str | Path, model: str) -> Path:
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
