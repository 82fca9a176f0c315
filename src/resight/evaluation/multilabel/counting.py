"""Precision, recall and F1 at the thresholds, subset accuracy and Hamming loss, with intervals over pictures."""

from __future__ import annotations

import numpy as np

from resight.evaluation.intervals import RESAMPLES, Estimate, resampled, resampled_means, studentized, wilson
from resight.evaluation.metrics import Floats
from resight.evaluation.multilabel.metrics import Bools

_AT_ONCE = 64  # classes resampled at a time: memory stays small with thousands


def counting_metrics(chosen: Bools, targets: Bools, *, seed: int = 0) -> dict[str, Estimate]:
    """Of (N, K) labels given and labels that are there. Macro: means over classes with pictures, where a class never
    given has precision 0. Micro: of all labels together, precision missing where none was given, recall and F1 where
    none is there. Equal to scikit-learn's with ``zero_division=0``.

    Macro and micro: a bootstrap over pictures, as `intervals.resampled` uses it; subset accuracy: Wilson's interval;
    Hamming loss: bootstrap-t.
    """
    n = len(targets)
    right, given, have = (table.astype(np.float64) for table in (chosen & targets, chosen, targets))
    sums = np.stack([right.sum(axis=0), given.sum(axis=0), have.sum(axis=0)])[:, None]  # (3, 1, K)
    drawn = n * np.stack([_resampled(table, seed) for table in (right, given, have)])  # (3, R, K)
    found: dict[str, Estimate] = {}
    supports = sums[2, 0]
    if supports.any():
        sizes = supports[supports > 0]
        balanced = min(float(n), float(len(sizes) ** 2 / (1 / sizes).sum()))
        for name, value, row in zip(("precision", "recall", "f1"), _macro(*sums), _macro(*drawn), strict=True):
            found[f"macro_{name}"] = resampled(float(value[0]), row, balanced)
    together, redrawn = sums.sum(axis=2), drawn.sum(axis=2)
    mosts = (sums[1, 0].sum(), supports.sum(), supports.sum())
    for name, most, value, row in zip(
        ("precision", "recall", "f1"), mosts, _shares(*together), _shares(*redrawn), strict=True
    ):
        if most:
            found[f"micro_{name}"] = resampled(float(value[0]), row, min(float(n), float(most)))
    exact = (chosen == targets).all(axis=1)
    wrong = (chosen != targets).mean(axis=1)
    means = resampled_means(np.column_stack([wrong, wrong**2]), seed=seed)
    found["subset_accuracy"] = wilson(int(exact.sum()), n)
    found["hamming_loss"] = studentized(wrong, means[:, 0], means[:, 1], most=1.0)
    return found


def _resampled(table: Floats, seed: int) -> Floats:
    """(N, K) → (R, K) means; the same pictures are drawn for every block of classes."""
    parts = [
        resampled_means(table[:, start : start + _AT_ONCE], seed=seed) for start in range(0, table.shape[1], _AT_ONCE)
    ]
    return np.concatenate(parts, axis=1) if parts else np.empty((RESAMPLES, 0))


def _macro(right: Floats, given: Floats, have: Floats) -> tuple[Floats, Floats, Floats]:
    """(R, K) counts → (R,) each: means over the classes that occur."""
    there = have > 0
    number = np.maximum(there.sum(axis=1), 1)
    means = [np.where(there, values, 0.0).sum(axis=1) / number for values in _shares(right, given, have)]
    return means[0], means[1], means[2]


def _shares(right: Floats, given: Floats, have: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of counts of any shape; 0 where undefined."""
    return _ratio(right, given), _ratio(right, have), _ratio(2 * right, given + have)


def _ratio(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return shares
