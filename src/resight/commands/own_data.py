"""The data that a Run was trained with, and how labelled pictures fit a Run. Needs no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError, RunError, UsageError
from resight.images import printable
from resight.runs import CARD, CONFIG, SPLIT, Run
from resight.samples import SPLITS, SampleSet, load, split_csv

ALL = "all"
_HINT = "say which data to evaluate on: resight eval RUN DATA"


def learned(run: Run, samples: SampleSet, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """A warning where the Run learned from some of the pictures at ``indices``, or where that is not known."""
    shown = printable(str(run.path))
    try:
        known = count_learned(run, samples, indices)
    except RunError as error:
        return [f"whether {shown} learned from these pictures is not known: {error.message}"]
    if not known:
        return []
    return [f"{shown} learned from {known:,} of these {len(indices):,} pictures: it will be worse on new ones"]


def count_learned(run: Run, samples: SampleSet, indices: Sequence[int] | NDArray[np.int64]) -> int:
    """How many of the pictures at ``indices`` were in the training part of the Run: those that lie where its split.csv
    says. Whether the rest of its data is still there, or has changed, plays no part. 0 for an imported Run.

    Raises RunError where the Run cannot say it, being damaged.
    """
    recorded = _recorded(run)
    if not recorded:
        return 0
    try:
        rows = split_csv.read(run.path / SPLIT, run.read(SPLIT))
    except DataError as error:
        raise RunError(error.message, hint=error.hint) from error
    theirs, ours = _root(Path(recorded)), samples.root.resolve()
    train = {(os.path.join(theirs, row.source), row.index) for row in rows.values() if row.split == "train"}
    chosen = (samples.samples[i] for i in indices)
    return sum((os.path.join(ours, sample.source), sample.index) in train for sample in chosen)


def run_at(named: str | Path | None) -> Run | None:
    """The Run that a path names, or that a file of weights lies in; None for what is neither. Nothing is verified."""
    path = Path(named or "")
    path = path.parent if path.is_file() else path
    return Run.open(path, verify=False) if (path / CARD).is_file() else None


def check_unseen(run: Run, samples: SampleSet, option: str) -> None:
    """Raises UsageError where the Run that ``--option`` names learned from these pictures, or where that is not known:
    each fold of a cross-validation would know its test.
    """
    shown, hint = printable(str(run.path)), f"give --{option} that was trained with other pictures"
    try:
        known = count_learned(run, samples, range(len(samples)))
    except RunError as error:
        raise UsageError(
            f"whether {shown} learned from these pictures is not known, so folds could be tested on pictures that it "
            f"learned from: {error.message}",
            hint=hint,
        ) from error
    if known:
        raise UsageError(
            f"{shown} learned from {known:,} of these {len(samples):,} pictures, so each fold would be tested on "
            "pictures that are known already",
            hint=hint,
        )


def _root(data: Path) -> Path:
    """The folder that names of pictures are relative to: a table's own, even where the table is gone."""
    table = data.suffix.lower() == ".csv" and not data.is_dir()
    return (data.parent if table else data).resolve()


def _recorded(run: Run) -> str:
    """Where the data lies that the Run was trained with; empty where it was not trained here. Raises RunError."""
    if not run.records(CONFIG):  # of an imported Run: also one that somebody has put there
        return ""
    try:
        return str(run.read_json(CONFIG)["data"]["path"] or "")
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / CONFIG} does not say where the data is: {error!r}", hint=_HINT) from error


def is_own(run: Run, data: str | Path) -> bool:
    """Whether the Run was trained with what lies at ``data``. Raises RunError where it cannot say it, being damaged."""
    recorded = _recorded(run)
    return bool(recorded) and Path(recorded).resolve() == Path(data).resolve()


def load_own(run: Run) -> SampleSet:
    """The data that ``run`` was trained with, split as then.

    Raises UsageError when the Run does not say where it is, DataError when it is gone or has changed.
    """
    if not run.records(CONFIG):
        raise UsageError(f"{run.path} has no {CONFIG} of its own, so its data is not known", hint=_HINT)
    recorded = _recorded(run)
    if not recorded:
        raise UsageError(f"{run.path} was not trained here, so its data is not known", hint=_HINT)
    if not Path(recorded).exists():
        raise DataError(f"the data of {run.path} is not at {printable(recorded)} any more", hint=_HINT)
    samples = load(recorded, split_csv=run.path / SPLIT, split_data=run.read(SPLIT), classes=run.classes)
    if samples.classes != run.classes:
        raise DataError(
            f"{printable(recorded)} has other classes than {run.path} was trained with: "
            f"{_names(samples.classes)}; the Run has {_names(run.classes)}",
            hint=_HINT,
        )
    return samples


def match_classes(found: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[str]]:
    """For each class of the data its position among the Run's classes, by name; and warnings.

    Raises DataError for classes that the Run does not know.
    """
    positions = {name: position for position, name in enumerate(known)}
    unknown = [name for name in found if name not in positions]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(found)} classes in the data are unknown to the Run: {_names(unknown)}\n"
            f"  the data has: {_names(found)}\n  the Run knows: {_names(known)}",
            hint="rename or remove these folders or labels; names must be equal, letter for letter",
        )
    there = set(found)
    missing = [name for name in known if name not in there]
    warnings = []
    if missing:
        warnings.append(f"{len(missing)} of the Run's {len(known)} classes are not in the data: {_names(missing)}")
    return [positions[name] for name in found], warnings


def default_part(samples: SampleSet) -> str:
    """``test``, or ``all`` for data that is not split. Raises DataError for data with other parts than
    test.
    """
    present = {sample.split for sample in samples.samples}
    if "test" in present:
        return "test"
    if present == {"train"} and samples.kind in ("folder", "csv"):
        return ALL
    raise DataError(
        f"{printable(str(samples.root))} has no test part; {parts_of(samples)}",
        hint="choose what to evaluate on: --part val, or --part all",
    )


def parts_of(samples: SampleSet) -> str:
    """How many pictures each part has, in words."""
    counts = {split: sum(sample.split == split for sample in samples.samples) for split in SPLITS}
    return "it has " + ", ".join(f"{split}: {count:,}" for split, count in counts.items())


def _names(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(printable(name) for name in names[:limit]) + more
