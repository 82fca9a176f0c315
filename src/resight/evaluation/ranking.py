"""Does a class's probability rank its own pictures above the others? One class against the rest, ties counted half.

AUROC is the Mann–Whitney statistic (Hanley and McNeil 1982). Average precision is Σ (R_k − R_{k−1}) P_k over the
distinct scores, without interpolation. Both equal scikit-learn's ``roc_auc_score`` and ``average_precision_score``.

Their variances come without resampling: the derivative of the statistic by the weight of each picture, squared and
summed (the infinitesimal jackknife, Efron 1982, chapter 6). For AUROC that is the variance of DeLong, DeLong and
Clarke-Pearson 1988. A mean over classes has the mean of the derivatives, so what the classes share is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError
from resight.evaluation.intervals import Estimate, effective
from resight.evaluation.metrics import Floats, checked


@dataclass(frozen=True)
class Ranking:
    """One-vs-rest results. ``auroc``, ``average_precision``: one for each class, None for a class without
    pictures, or with all of them. The macro values are means over the others, None where there are none.
    """

    auroc: tuple[Estimate | None, ...]
    average_precision: tuple[Estimate | None, ...]
    macro_auroc: Estimate | None
    macro_average_precision: Estimate | None


@dataclass(frozen=True, eq=False)
class Ranked:
    """One class: two values in 0 … 1, and their derivatives by the weight of each picture, (N,) float64."""

    auroc: float
    average_precision: float
    auroc_slope: Floats
    precision_slope: Floats


def rank_classes(probabilities: ArrayLike, labels: ArrayLike) -> Ranking:
    """AUROC and average precision of each class against the rest, and their means, with 95 % intervals.

    ``probabilities`` (N, C), ``labels`` (N,) int. Time: C sorts of N numbers; memory: N · C flags and a few columns.
    Raises UsageError and DataError as `metrics.checked` does.
    """
    scores, targets = checked(probabilities, labels)
    return rank_binary(scores, targets[:, None] == np.arange(scores.shape[1]))


def rank_binary(scores: Floats, positive: NDArray[np.bool_]) -> Ranking:
    """The same for classes that need not exclude each other: scores (N, K), and which pictures have which, (N, K)."""
    n, classes = scores.shape
    supports = positive.sum(axis=0)
    found: list[tuple[Estimate | None, Estimate | None]] = [(None, None)] * classes
    slopes = np.zeros((2, n))
    present = [k for k in range(classes) if 0 < supports[k] < n]
    for k in present:
        one = rank_class(scores[:, k], positive[:, k])
        found[k] = _estimates(one, int(supports[k]), n)
        slopes += one.auroc_slope, one.precision_slope
    auroc, precision = zip(*found, strict=True)
    if not present:
        return Ranking(auroc, precision, None, None)
    slopes /= len(present)
    sizes = supports[present]
    return Ranking(
        auroc,
        precision,
        _mean(auroc, slopes[0], _pairs(sizes, n)),
        _mean(precision, slopes[1], sizes.astype(np.float64)),
    )


def rank_class(scores: ArrayLike, positive: ArrayLike) -> Ranked:
    """AUROC and average precision of ``scores`` (N,) for the pictures that are ``positive`` (N,) bool.

    Raises UsageError where the shapes do not fit, DataError unless there are both kinds.
    """
    values: NDArray[Any] = np.asarray(scores, dtype=np.float64)
    own: NDArray[Any] = np.asarray(positive)
    if values.ndim != 1 or own.shape != values.shape or own.dtype != np.bool_:
        raise UsageError(f"scores (N,) and positive (N,) bool do not fit: {values.shape}, {own.shape} {own.dtype}")
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # the last of each run of equal scores
    above = np.cumsum(own[order])[ends].astype(np.float64)  # positives at this score or higher
    false = ends + 1 - above
    m, n = above[-1], false[-1]
    if not m or not n:
        raise DataError("ranking needs pictures of the class and of others")
    here, false_here = np.diff(above, prepend=0), np.diff(false, prepend=0)
    beaten, beaten_by = (n - false + false_here / 2) / n, (above - here / 2) / m
    auroc = float(here @ beaten / m)
    answered = above + false
    precision = above / answered
    average = float(here @ precision / m)
    # One picture more at a score changes the precision at all scores below it.
    gain = _from_here(here * false / answered**2) / m
    loss = _from_here(here * above / answered**2) / m
    place = np.empty(len(values), np.int64)
    place[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    return Ranked(
        auroc,
        average,
        np.where(own, (beaten[place] - auroc) / m, (beaten_by[place] - auroc) / n),
        np.where(own, (precision[place] - average) / m + gain[place], -loss[place]),
    )


def _from_here(values: Floats) -> Floats:
    sums: Floats = values[::-1].cumsum()[::-1]
    return sums


def _estimates(one: Ranked, support: int, n: int) -> tuple[Estimate, Estimate]:
    small = support / (support - 1) if support > 1 else float("inf")
    return (
        effective(one.auroc, float(one.auroc_slope @ one.auroc_slope) * small, float(_pairs(support, n))),
        effective(one.average_precision, float(one.precision_slope @ one.precision_slope) * small, float(support)),
    )


def _pairs(support: Any, n: int) -> Any:
    """The effective number of pictures of an AUROC near 1, where Hanley and McNeil's variance tends to that of a
    proportion of 4 m (n - m) / n pictures. Pictures ranked without a mistake show no variance, and tell no more.
    """
    return 4 * support * (n - support) / n


def _mean(each: Sequence[Estimate | None], slope: Floats, most: NDArray[Any]) -> Estimate:
    """``most`` (K,): of each class the largest effective number; of their mean it is K² / Σ(1/most)."""
    values = [estimate.value for estimate in each if estimate is not None]
    together = float(len(most) ** 2 / (1 / most).sum())
    variance = float(slope @ slope) * together / max(together - len(most), 1.0)
    return effective(float(np.mean(values)), variance, together)
