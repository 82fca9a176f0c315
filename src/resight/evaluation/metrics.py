"""Metrics of a classifier, as pure functions of arrays.

*Scores* are probabilities or logits, (N, C) float, one row a picture; *labels* are (N,) int in 0 … C-1.
Whatever only ranks classes (accuracy, top-k, confusion) takes either. Arithmetic is float64; counts are
int64.

Ties go to the class with the lower index, everywhere: the answer is ``argmax``, and ``top_k(…, 1) ==
accuracy(…)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_SCORE = 1e100  # beyond this, sums and squares of logits stop being finite


@dataclass(frozen=True)
class Count:
    """``correct`` of ``seen`` pictures. Parts of a data set add up: ``count + count``."""

    correct: int
    seen: int

    @property
    def share(self) -> float:
        """In 0 … 1; nan where nothing was seen."""
        return self.correct / self.seen if self.seen else float("nan")

    def __add__(self, other: Count) -> Count:
        """The count over both parts."""
        return Count(self.correct + other.correct, self.seen + other.seen)


@dataclass(frozen=True, eq=False)
class PerClass:
    """What a confusion matrix says of each class. Shares are (..., C) float64 in 0 … 1, nan where 0/0."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


@dataclass(frozen=True)
class Macro:
    """Unweighted means over the classes that occur in the labels, in 0 … 1."""

    precision: float
    recall: float
    f1: float


def log_softmax(logits: ArrayLike) -> Floats:
    """Logarithms of the softmax over the last axis: (..., C) real → (..., C) float64 in -inf … 0."""
    scores = np.asarray(logits, dtype=np.float64)
    shifted: Floats = scores - scores.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax(logits: ArrayLike) -> Floats:
    """(..., C) real → (..., C) float64 in 0 … 1 that sum to 1 over the last axis."""
    logs = log_softmax(logits)
    chances: Floats = np.exp(logs, out=logs)
    return chances


def accuracy(scores: ArrayLike, labels: ArrayLike) -> Count:
    """Pictures whose best class is the true one. Raises UsageError and DataError as `checked` does."""
    scores, labels = checked(scores, labels)
    return Count(int(np.count_nonzero(scores.argmax(axis=1) == labels)), len(labels))


def top_k(scores: ArrayLike, labels: ArrayLike, k: int) -> Count:
    """Pictures whose true class is among the ``k`` best.

    Of classes with equal scores the one with the lower index ranks first (scikit-learn's
    ``top_k_accuracy_score`` takes the higher one). With k ≥ C every picture counts. Raises UsageError for k <
    1, and as `checked` does.
    """
    if k < 1:
        raise UsageError(f"top-k needs k of 1 or more, not {k}")
    scores, labels = checked(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank = np.count_nonzero((scores > own) | ((scores == own) & earlier), axis=1)
    return Count(int(np.count_nonzero(rank < k)), len(labels))


def confusion(predicted: ArrayLike, labels: ArrayLike, classes: int) -> Ints:
    """How often class i (row, true) was answered as class j (column): (C, C) int64, with C = ``classes``.

    ``predicted`` and ``labels`` are (N,) int in 0 … C-1. Raises UsageError or DataError where they are not.
    """
    rows = _checked_labels(labels, classes, "labels")
    columns = _checked_labels(predicted, classes, "predicted classes")
    if rows.shape != columns.shape:
        raise UsageError(f"{len(columns)} predictions do not fit {len(rows)} labels")
    cells = np.bincount(rows * classes + columns, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def per_class(matrix: ArrayLike) -> PerClass:
    """Precision, recall, F1 and support of each class of a (C, C) confusion matrix (rows = true).

    Undefined is nan: recall of a class without pictures, precision of one that was never answered, F1 of one
    that is both. These are scikit-learn's ``precision_recall_fscore_support`` with ``zero_division=nan``.
    Raises UsageError if the matrix is not square.
    """
    cells = _checked_matrix(matrix)
    right, answered, support = np.diagonal(cells), cells.sum(axis=0), cells.sum(axis=1)
    return from_margins(right, answered, support)


def from_margins(right: Ints, answered: Ints, support: Ints) -> PerClass:
    """The same from (..., C) int64 each: correct answers, answers given, pictures there are."""
    return PerClass(
        precision=_ratio(right, answered),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, answered + support),
        support=support,
    )


def macro(matrix: ArrayLike) -> Macro:
    """Macro averages of a (C, C) confusion matrix, over the classes that occur in the labels.

    A class that occurs but was never answered has precision 0 here: leaving it out would reward ignoring it.
    Equal to scikit-learn's with ``labels=np.unique(labels), average="macro", zero_division=0``; the macro
    recall is the balanced accuracy. Raises UsageError if the matrix is not square, DataError if it is empty.
    """
    each = per_class(matrix)
    if not each.support.any():
        raise DataError("no pictures to average over", hint="evaluate a part that has labelled pictures")
    precision, recall, f1 = macro_means(each)
    return Macro(float(precision), float(recall), float(f1))


def macro_means(each: PerClass) -> Floats:
    """(..., C) per-class metrics → (3, ...) float64: macro precision, recall, F1 as `macro` defines them."""
    present = each.support > 0
    kept = [np.where(present, np.nan_to_num(m), 0.0) for m in (each.precision, each.recall, each.f1)]
    means: Floats = np.stack(kept).sum(axis=-1) / present.sum(axis=-1)
    return means


def losses(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Cross-entropy of each picture, in nats: (N,) float64 ≥ 0. Raises what `checked` raises."""
    scores, labels = checked(logits, labels)
    picked: Floats = -np.take_along_axis(log_softmax(scores), labels[:, None], axis=1)[:, 0]
    return picked + 0.0  # no negative zero


def log_loss(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean cross-entropy in nats, through log-softmax: exact where probabilities would round to 0 or 1.

    For probabilities pass their logarithms. Raises UsageError and DataError as `checked` does.
    """
    return float(losses(logits, labels).mean())


def squared_errors(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Of each picture Σ (p − y)² over all classes: (N,) float64 in 0 … 2. Raises what `checked` raises."""
    values, labels = checked(probabilities, labels)
    own = np.take_along_axis(values, labels[:, None], axis=1)[:, 0]
    found: Floats = np.einsum("nc,nc->n", values, values) - own**2 + (1 - own) ** 2
    return found


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The Brier score over all classes, in 0 … 2 (Brier 1950, equation 2): with two classes twice the score of the
    one class alone that is often called by this name. Raises UsageError and DataError as `checked` does.
    """
    return float(squared_errors(probabilities, labels).mean())


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Ints]:
    """Scores (N, C) as float64 and labels (N,) as int64, or an error.

    Raises UsageError for wrong shapes or types; DataError for N = 0, scores that are not finite (or beyond
    1e100 in size) and labels outside 0 … C-1.
    """
    table: NDArray[Any] = np.asarray(scores)
    if table.ndim != 2 or table.shape[1] == 0 or table.dtype.kind not in "fiu":
        raise UsageError(f"scores must be (N, C) numbers, not {table.shape} {table.dtype}")
    values = table.astype(np.float64, copy=False)
    targets = _checked_labels(labels, values.shape[1], "labels")
    if len(values) != len(targets):
        raise UsageError(f"{len(values)} rows of scores do not fit {len(targets)} labels")
    if not len(values):
        raise DataError("no pictures to evaluate", hint="evaluate a part that has labelled pictures")
    if not np.abs(values).max() <= LARGEST_SCORE:  # also true for nan
        bad = int(np.flatnonzero(~(np.abs(values).max(axis=1) <= LARGEST_SCORE))[0])
        raise DataError(
            f"the scores of picture {bad} are not finite numbers",
            hint="the network is broken: its training diverged, or its weights are damaged",
        )
    return values, targets


def _checked_labels(labels: ArrayLike, classes: int, what: str) -> Ints:
    array: NDArray[Any] = np.asarray(labels)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UsageError(f"{what} must be (N,) integers, not {array.shape} {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < classes:
        raise DataError(
            f"{what} run from {array.min()} to {array.max()}, not within 0 … {classes - 1}",
            hint="check that they belong to these classes",
        )
    return array.astype(np.int64, copy=False)


def _checked_matrix(matrix: ArrayLike) -> Ints:
    cells: NDArray[Any] = np.asarray(matrix)
    square = cells.ndim == 2 and cells.shape[0] == cells.shape[1]
    if not square or cells.dtype.kind not in "iu":
        raise UsageError(f"a confusion matrix is (C, C) integers, not {cells.shape} {cells.dtype}")
    if cells.size and cells.min() < 0:
        raise DataError(f"a confusion matrix holds counts, not {cells.min()}")
    return cells.astype(np.int64, copy=False)


def _ratio(part: Ints, whole: Ints) -> Floats:
    undefined = np.full(np.shape(whole), np.nan)
    shares: Floats = np.divide(part, whole, out=undefined, where=whole > 0)
    return shares
