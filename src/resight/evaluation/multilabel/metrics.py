"""Metrics of pictures with any number of labels, as pure functions of arrays.

*Logits* are (N, K) float, one column a class, each answered for itself: its probability is sigmoid(logit). *Targets*
are (N, K) of 0 and 1. Arithmetic is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError
from resight.evaluation.metrics import LARGEST_SCORE, Floats, Ints
from resight.evaluation.ranking import rank_class

Bools = NDArray[np.bool_]


def sigmoid(logits: ArrayLike) -> Floats:
    """1 / (1 + e^-z) of any shape, float64 in 0 … 1, without overflow."""
    scores = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(scores))
    chances: Floats = np.where(scores >= 0, 1.0, small) / (1 + small)
    return chances


def binary_losses(logits: ArrayLike, targets: ArrayLike) -> Floats:
    """Binary cross-entropy of each label, in nats: (N, K) float64 ≥ 0. Exact where a probability rounds to 0 or 1."""
    scores, own = checked(logits, targets)
    away = np.where(own, -scores, scores)  # how far the logit is on the wrong side
    found: Floats = np.maximum(away, 0) + np.log1p(np.exp(-np.abs(away)))
    return found


def binary_log_loss(logits: ArrayLike, targets: ArrayLike) -> float:
    """Mean over pictures and classes of the binary cross-entropy, in nats: what training minimises."""
    return float(binary_losses(logits, targets).mean())


def mean_average_precision(scores: ArrayLike, targets: ArrayLike) -> float | None:
    """Macro mAP, in 0 … 1: the mean of the average precision of the classes that some pictures have and some not.

    None where there is no such class. Equal to scikit-learn's ``average_precision_score(…, average="macro")`` over
    these classes.
    """
    values, own = checked(scores, targets)
    each = [rank_class(values[:, k], own[:, k]).average_precision for k in rankable(own)]
    return float(np.mean(each)) if each else None


def rankable(targets: Bools) -> list[int]:
    """Classes that some of the pictures have and some not: (N, K) bool → ascending positions."""
    supports = targets.sum(axis=0)
    return np.flatnonzero((supports > 0) & (supports < len(targets))).tolist()


def subset_accuracy(chosen: ArrayLike, targets: ArrayLike) -> float:
    """The share of pictures whose labels are all right, (N, K) of 0 and 1 each: ``accuracy_score`` of scikit-learn."""
    return float((np.asarray(chosen, dtype=bool) == np.asarray(targets, dtype=bool)).all(axis=1).mean())


def counts(chosen: Bools, targets: Bools) -> tuple[Ints, Ints, Ints]:
    """For each class, int64 (K,): pictures rightly given the label, pictures given it, pictures that have it."""
    right, given, have = (table.sum(axis=0).astype(np.int64) for table in (chosen & targets, chosen, targets))
    return right, given, have


def pairs(rows: Bools, columns: Bools) -> Ints:
    """int64 (K, L): for each pair of classes the pictures that have the first in ``rows`` (N, K) and the second in
    ``columns`` (N, L). As float64, which is exact here and which BLAS multiplies: NumPy's loop over whole numbers takes
    minutes for a thousand classes.
    """
    return np.rint(rows.T.astype(np.float64) @ columns.astype(np.float64)).astype(np.int64)


def checked(scores: ArrayLike, targets: ArrayLike) -> tuple[Floats, Bools]:
    """Scores (N, K) as float64 and targets (N, K) as bool, or an error.

    Raises UsageError for shapes and types that do not fit; DataError for N = 0, scores that are not finite and
    targets other than 0 and 1.
    """
    table: NDArray[Any] = np.asarray(scores)
    own: NDArray[Any] = np.asarray(targets)
    if table.ndim != 2 or table.shape[1] == 0 or table.dtype.kind not in "fiu":
        raise UsageError(f"scores must be (N, K) numbers, not {table.shape} {table.dtype}")
    if own.shape != table.shape or own.dtype.kind not in "biuf":
        raise UsageError(f"targets {own.shape} {own.dtype} do not fit scores {table.shape}")
    if not len(table):
        raise DataError("no pictures to evaluate", hint="evaluate a part that has labelled pictures")
    values = table.astype(np.float64, copy=False)
    if not np.abs(values).max() <= LARGEST_SCORE:  # also true for nan
        raise DataError(
            "some scores are not finite numbers",
            hint="the network is broken: its training diverged, or its weights are damaged",
        )
    if not ((own == 0) | (own == 1)).all():
        raise DataError("targets must be 0 or 1 for each picture and class")
    return values, own.astype(bool)
