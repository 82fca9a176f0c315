"""``predictions.npz``: what a Run answered to its own validation and test parts, with the pictures' names."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.images import printable
from resight.runs.run import PREDICTIONS, SPLIT, Run
from resight.samples import split_csv
from resight.samples.split_csv import SplitRow


@dataclass(frozen=True, eq=False)
class Stored:
    """Answers to one part: ``rows``, ``labels`` int64 (N,) and ``indices`` int64 (N,) say of which pictures, ``logits``
    float32 (N, K) are divided by the temperature.
    """

    rows: tuple[SplitRow, ...]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]


def stored(run: Run, part: str) -> Stored | None:
    """What the Run answered to its ``part`` (val or test); None where it has none.

    Raises RunError for a Run without predictions or of any number of labels, and for predictions that do not fit its
    split.
    """
    if not run.records(PREDICTIONS) or not run.records(SPLIT):
        raise RunError(
            f"{printable(str(run.path))} has no {PREDICTIONS} of its own", hint="give a Run that was trained by Resight"
        )
    if run.card.task != "single":
        raise RunError(
            f"{printable(str(run.path))} answers with any number of labels; expected a Run of one class a picture",
            hint="see docs/multilabel.md for what there is for such Runs",
        )
    rows = [row for row in split_csv.read(run.path / SPLIT, run.read(SPLIT)).values() if row.split != split_csv.SKIPPED]
    try:
        with np.load(io.BytesIO(run.read(PREDICTIONS)), allow_pickle=False) as arrays:
            if f"{part}_logits" not in arrays:
                return None
            logits, labels, indices = (arrays[f"{part}_{name}"] for name in ("logits", "labels", "indices"))
        if not logits.shape == (len(labels), len(run.classes)) or len(indices) != len(labels):
            raise ValueError(f"logits {logits.shape}, {len(labels)} labels and {len(indices)} indices do not fit")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers of shape (N,)")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(run.classes):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}; expected 0 to {len(run.classes) - 1}")
        named = tuple(rows[index] for index in indices.tolist())
        if any(run.classes[label] != row.label for label, row in zip(labels.tolist(), named, strict=True)):
            raise ValueError(f"labels are others than in {SPLIT}")
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise RunError(f"{printable(str(run.path / PREDICTIONS))} is not sound: {printable(str(error))}") from error
    return Stored(named, labels, indices, logits)
