"""How good are the answers, if the network may keep silent where it is unsure? (Geifman and El-Yaniv 2017)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import UsageError
from resight.evaluation.intervals import RESAMPLES, Estimate, resampled
from resight.evaluation.metrics import Floats, Ints, checked

BLOCK = 1 << 21


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """One point for each of M distinct confidences, the highest first: (M,) float64 each, in 0 … 1.

    Of the pictures answered with ``threshold`` or more, which are the share ``coverage`` of all, the share ``risk``
    is answered wrongly.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """AURC: the mean over pictures of the risk at their confidence, in 0 … 1. Less is better."""
        return float(np.diff(self.coverage, prepend=0) @ self.risk)

    def at_accuracy(self, accuracy: float) -> tuple[float, float]:
        """The largest coverage whose answers are right in the share ``accuracy`` or more, and its threshold;
        (0, 1) where no part is. Found on these pictures, so a little too good for others.
        """
        good = np.flatnonzero(self.risk <= 1 - accuracy + 1e-12)
        return (float(self.coverage[good[-1]]), float(self.threshold[good[-1]])) if len(good) else (0.0, 1.0)


def risk_coverage(probabilities: ArrayLike, labels: ArrayLike) -> RiskCoverage:
    """The risk–coverage curve by the probability of the best class; equal confidences are answered together.

    ``probabilities`` (N, C), ``labels`` (N,) int. Raises UsageError and DataError as `metrics.checked` does.
    """
    confidence, wrong, ends = _sorted(probabilities, labels)
    seen = ends + 1
    return RiskCoverage(confidence[ends], seen / len(confidence), np.cumsum(wrong)[ends] / seen)


def aurc(probabilities: ArrayLike, labels: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The area under the risk–coverage curve with its 95 % interval (see `intervals.resampled`).

    Raises UsageError for resamples < 1, and as `risk_coverage` does.
    """
    if resamples < 1:
        raise UsageError(f"resampling needs one resample or more, not {resamples}")
    _, wrong, ends = _sorted(probabilities, labels)
    n, random = len(wrong), np.random.default_rng(seed)
    drawn = np.empty(resamples)
    step = max(1, BLOCK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picks = random.integers(0, n, size=(count, n)) + np.arange(count)[:, None] * n
        times = np.bincount(picks.ravel(), minlength=count * n).reshape(count, n)
        drawn[start : start + count] = _areas(times.astype(np.float64), wrong, ends)
    return resampled(float(_areas(np.ones((1, n)), wrong, ends)[0]), drawn, n)


def _areas(times: Floats, wrong: Floats, ends: Ints) -> Floats:
    """AURC of each resample, whose pictures occur ``times`` (R, N), sorted by confidence: (R,)."""
    seen, missed = np.cumsum(times, axis=1)[:, ends], np.cumsum(times * wrong, axis=1)[:, ends]
    risk = np.divide(missed, seen, out=np.zeros_like(missed), where=seen > 0)
    areas: Floats = (np.diff(seen, axis=1, prepend=0) * risk).sum(axis=1) / seen[:, -1]
    return areas


def _sorted(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, Ints]:
    """Confidences, the highest first; whether the answer is wrong (0 or 1); the last of each run of equal ones."""
    values, targets = checked(probabilities, labels)
    best, confidence = values.argmax(axis=1), values.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1).astype(np.int64)
    return confidence[order], (best != targets)[order].astype(np.float64), ends
