"""A cross-validation: a folder of Runs, one for each fold, and what they answered out of fold.

crossval.json      what was asked for, and the data; at the end all metrics. ``status``: training or complete
splits/fold-1.csv  the split of each fold, as a Run's split.csv
fold-1/            its Run, whose test part is the fold
out_of_fold.csv    the answer to every picture, by the one network that has not seen it
report.html        the averaged report
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.images import printable
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.predictions import Stored, stored
from resight.runs.run import REPORT, Run
from resight.runs.storage import write_atomic

PLAN, SPLITS, OUT_OF_FOLD, PAGE = "crossval.json", "splits", "out_of_fold.csv", REPORT
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A complete cross-validation. ``content``: of crossval.json. ``runs``: sealed, in the order of the folds."""

    path: Path
    content: dict[str, Any]
    runs: tuple[Run, ...]

    @classmethod
    def open(cls, path: Path | str) -> CrossValidation:
        """Raises RunError where there is none, it is not complete, or a Run of it does not open."""
        path = Path(path)
        content = read_plan(path)
        if content["status"] != "complete":
            raise RunError(
                f"the cross-validation {printable(str(path))} is not complete",
                hint="go on with the command that began it: resight crossval DATA … --out " + printable(str(path)),
            )
        runs = tuple(Run.open(fold_path(path, k), verify=False) for k in range(1, content["folds"] + 1))
        return cls(path, content, runs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.runs[0].classes

    def value(self, name: str) -> float:
        """The mean over folds of a metric. Raises RunError where not every fold has it."""
        try:
            return float(self.content["metrics"]["folds"][name]["mean"]["value"])
        except (KeyError, TypeError) as error:
            raise RunError(f"the cross-validation {self.path} has no '{name}' over all folds") from error


def fold_path(path: Path, number: int) -> Path:
    """The Run of fold ``number``, 1 … k."""
    return path / f"fold-{number}"


def split_path(path: Path, number: int) -> Path:
    """The split.csv of fold ``number``, 1 … k."""
    return path / SPLITS / f"fold-{number}.csv"


def is_crossval(path: Path) -> bool:
    """Whether the folder holds a cross-validation, complete or not."""
    return (path / PLAN).is_file()


def read_plan(path: Path) -> dict[str, Any]:
    """The content of crossval.json. Raises RunError for what is none, or is of another version."""
    file = path / PLAN
    try:
        plain = read_json(file.read_bytes())
    except OSError as error:
        raise RunError(f"{printable(str(file))} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{printable(str(file))} is not valid JSON: {error}") from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise RunError(f"{printable(str(file))} is not a cross-validation of schema {SCHEMA}")
    folds, data = plain.get("folds"), plain.get("data")
    sound = type(folds) is int and folds >= 2 and isinstance(data, dict) and isinstance(plain.get("settings"), dict)
    if not sound or plain.get("status") not in ("training", "complete"):
        raise RunError(f"{printable(str(file))} lacks a field or has an impossible value")
    return plain


def write_plan(path: Path, content: dict[str, Any]) -> None:
    """Write crossval.json, atomically. Raises StorageError."""
    write_atomic(path / PLAN, json_bytes(content))


def out_of_fold(runs: Sequence[Run]) -> tuple[Stored, NDArray[np.int64]]:
    """All answers to the test parts of ``runs``, fold after fold, and the fold of each, int64 (N,), 1 … k.

    Raises RunError where the Runs have other classes, one has no test part, or a picture is in two.
    """
    parts = []
    for run in runs:
        answers = stored(run, "test")
        if run.classes != runs[0].classes:
            raise RunError(f"{printable(str(run.path))} has other classes than {printable(str(runs[0].path))}")
        if answers is None:
            raise RunError(f"{printable(str(run.path))} has no test part, so it is not a fold")
        parts.append(answers)
    rows = tuple(row for part in parts for row in part.rows)
    twice = len(rows) - len({(row.source, row.index) for row in rows})
    if twice:
        raise RunError(f"{twice:,} pictures are in the test parts of two folds: these are not folds of one split")
    together = Stored(
        rows,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.logits for part in parts]),
    )
    return together, np.repeat(np.arange(1, len(parts) + 1), [len(part.rows) for part in parts])
