"""Does a stated 80 % come true four times in five? Temperature and calibration error (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import DataError, UsageError
from resight.evaluation.metrics import Floats, Ints, checked, softmax

BINS = 15  # as in Guo et al. 2017, section 4
COLDEST, HOTTEST = 0.05, 20.0
STEPS = 60  # halving alone narrows the whole range to a double's precision in these


@dataclass(frozen=True, eq=False)
class Reliability:
    """Pictures by the confidence of their answer, in B equal-width bins: what a reliability diagram shows.

    ``count`` (B,) int64; ``confidence`` and ``accuracy`` (B,) float64 means in 0 … 1, nan in empty bins.
    """

    count: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """The expected calibration error, in 0 … 1."""
        full = self.count > 0
        gaps = np.abs(self.accuracy[full] - self.confidence[full])
        return float(gaps @ self.count[full] / self.count.sum())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T in 0.05 … 20 for which softmax(logits / T) has the least log loss (Guo et al. 2017, section 4.2).

    The true class counts as right with (N + 1)/(N + 2) only, the others share the rest (Platt 1999, section
    2.2): N pictures cannot show more, and where all N are right the plain log loss would fall for ever as
    T → 0. The loss is convex in 1/T, so its slope there is bracketed and followed to zero by Newton's method.

    Logits that are worse than guessing end at 20; logits that say nothing, all equal, at 1. ``logits`` (N, C),
    ``labels`` (N,) int; raises UsageError and DataError as `metrics.checked` does.
    """
    scores, labels = checked(logits, labels)
    scores = scores - scores.max(axis=1, keepdims=True)
    if not scores.any():
        return 1.0
    count, classes = scores.shape
    doubt = 1 / (count + 2)
    own = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    own = (1 - doubt) * own + doubt * (scores.sum(axis=1) - own) / (classes - 1)
    return coolest(lambda inverse: _slope(scores, own, inverse))


def coolest(slope_at: Callable[[float], tuple[float, float]]) -> float:
    """The temperature in 0.05 … 20 at which a loss that is convex in 1/T is least. ``slope_at(1/T)``: its first and
    second derivative by 1/T.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope_at(low)[0] >= 0:
        return HOTTEST
    if slope_at(high)[0] <= 0:
        return COLDEST
    inverse = 1.0
    for _ in range(STEPS):
        slope, curvature = slope_at(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else 0.0
        following = step if low <= step <= high else float(np.sqrt(low * high))
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return float(np.clip(1 / inverse, COLDEST, HOTTEST))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Reliability:
    """Count, mean confidence and accuracy in equal-width bins ((b-1)/B, b/B] of the best class's probability.

    ``probabilities`` (N, C) in 0 … 1, ``labels`` (N,) int. Raises UsageError for bins < 1, DataError for
    probabilities outside 0 … 1, and both as `metrics.checked` does.
    """
    confidence, correct = _confidences(probabilities, labels)
    place = bin_of(confidence, bins)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):  # 0/0 is nan: an empty bin
        return Reliability(
            count=count,
            confidence=np.bincount(place, weights=confidence, minlength=bins) / count,
            accuracy=np.bincount(place, weights=correct, minlength=bins) / count,
        )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean over pictures of |accuracy - confidence| of their bin, in 0 … 1 (Guo et al. 2017, equation 3).

    Noise raises it: of few pictures it is above 0 even for a perfectly calibrated network. Takes and raises
    what `reliability` does.
    """
    return reliability(probabilities, labels, bins).error


def calibration_gaps(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Floats:
    """(N, bins) float64: correct (0 or 1) minus confidence of each picture, in the column of its bin, else 0.

    The sum of the absolute means of the columns is the expected calibration error, which makes it quick to
    resample. Takes and raises what `reliability` does.
    """
    confidence, correct = _confidences(probabilities, labels)
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), bin_of(confidence, bins)] = correct - confidence
    return gaps


def chance_errors(probabilities: ArrayLike, *, bins: int = BINS, seed: int = 0, draws: int = 1000) -> Floats:
    """Calibration errors that a perfectly calibrated network would show on these pictures: (draws,) float64.

    Were every confidence c true, an answer would be right with probability c; the sum of correct - c over a
    bin is then nearly normal with variance Σ c(1 - c). (Bröcker and Smith 2007 draw the answers themselves.)
    ``probabilities`` (N, C) in 0 … 1. Raises what `reliability` raises.
    """
    n = len(np.asarray(probabilities))
    confidence, _ = _confidences(probabilities, np.zeros(n, dtype=np.int64))
    variance = np.bincount(bin_of(confidence, bins), weights=confidence * (1 - confidence), minlength=bins)
    sums = np.random.default_rng(seed).standard_normal((draws, bins)) * np.sqrt(variance)
    errors: Floats = np.abs(sums).sum(axis=1) / n
    return errors


def bin_of(confidence: Floats, bins: int = BINS) -> Ints:
    """The bin ((b-1)/B, b/B] of each confidence in 0 … 1, counted from 0; 0 itself is in the first."""
    if bins < 1:
        raise UsageError(f"calibration needs one bin or more, not {bins}")
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def _confidences(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    values, labels = checked(probabilities, labels)
    best, confidence = values.argmax(axis=1), values.max(axis=1)
    if values.min() < 0 or confidence.max() > 1 + 1e-6:
        raise DataError("probabilities must lie in 0 … 1", hint="pass softmax(logits), not logits")
    return np.minimum(confidence, 1.0), (best == labels).astype(np.float64)


def _slope(scores: Floats, own: Floats, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean log loss by 1/T: mean(E[z] - own) and mean(Var[z]).

    ``own`` (N,): the score that the labels, a little doubted, expect of each picture.
    """
    chances = softmax(scores * inverse)
    mean = (chances * scores).sum(axis=1)
    square = (chances * scores**2).sum(axis=1)
    return float((mean - own).mean()), float((square - mean**2).mean())
