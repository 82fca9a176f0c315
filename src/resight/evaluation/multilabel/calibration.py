"""Temperature and thresholds of labels that are answered each for itself, and whether their probabilities are true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from resight.evaluation.calibration import BINS, Reliability, bin_of, coolest
from resight.evaluation.metrics import Floats
from resight.evaluation.multilabel.metrics import Bools, checked, sigmoid
from resight.runs import Threshold

ENOUGH_POSITIVES = 10
"""Validation pictures of a class that a threshold is fitted to; with fewer it would follow single pictures."""
DEFAULT_THRESHOLD = 0.5


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T in 0.05 … 20 for which sigmoid(logits / T) has the least log loss, one for all classes (Guo et al. 2017,
    section 4.2, for the sigmoid).

    As there, labels count as certain only as far as their number allows (Platt 1999, section 2.2): of P labels that
    are there and Q that are not, as (P + 1)/(P + 2) and 1/(Q + 2). Logits that are all 0 say nothing: 1.
    """
    scores, own = checked(logits, targets)
    if not scores.any():
        return 1.0
    there = int(own.sum())
    aim = np.where(own, (there + 1) / (there + 2), 1 / (own.size - there + 2))

    def slope(inverse: float) -> tuple[float, float]:
        chances = sigmoid(scores * inverse)
        first = ((chances - aim) * scores).mean()
        return float(first), float((chances * (1 - chances) * scores**2).mean())

    return coolest(slope)


def fit_thresholds(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Threshold, ...]:
    """For each class the threshold with the highest F1 on these pictures, (N, K) each; a label is given from it on.

    Only values between two probabilities are tried, in the middle, so that none lies at a threshold; of equally good
    ones the nearest to 0.5. A class with fewer than 10 positive pictures, or without others, keeps 0.5. Values are
    float32, as probabilities are.
    """
    values, own = checked(probabilities, targets)
    return tuple(_threshold(values[:, k], own[:, k]) for k in range(values.shape[1]))


def _threshold(chances: Floats, own: Bools) -> Threshold:
    positives = int(own.sum())
    if positives < ENOUGH_POSITIVES or positives == len(own):
        return Threshold(DEFAULT_THRESHOLD, positives, False)
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    below = np.append(ranked[1:], 0.0)
    cuts = np.flatnonzero(ranked > below)  # after the last of equal probabilities
    right = np.cumsum(own[order])[cuts]
    f1 = 2 * right / (cuts + 1 + positives)
    middles = ((ranked + below) / 2)[cuts].astype(np.float32)
    # float32 has no number between two neighbours: their middle would be one of them
    usable = (middles > below[cuts]) & (middles < ranked[cuts]) & (middles > 0) & (middles < 1)
    if not usable.any():
        return Threshold(DEFAULT_THRESHOLD, positives, False)
    f1, middles = f1[usable], middles[usable]
    best = np.flatnonzero(f1 == f1.max())
    chosen = best[np.abs(middles[best] - DEFAULT_THRESHOLD).argmin()]
    return Threshold(float(middles[chosen]), positives, True)


def given(probabilities: ArrayLike, thresholds: Sequence[float]) -> Bools:
    """Which labels are answered: (N, K) probabilities and K thresholds → (N, K) bool, from the threshold on."""
    found: Bools = np.asarray(probabilities, dtype=np.float64) >= np.asarray(thresholds, dtype=np.float64)
    return found


def reliability(probabilities: ArrayLike, targets: ArrayLike, bins: int = BINS) -> Reliability:
    """Of all N · K labels together: how many, their mean probability and the share that is there, in equal-width bins
    of the probability. Its ``error`` is the expected calibration error.
    """
    values, own = checked(probabilities, targets)
    place = bin_of(values.ravel(), bins)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):  # 0/0 is nan: an empty bin
        return Reliability(
            count=count,
            confidence=np.bincount(place, weights=values.ravel(), minlength=bins) / count,
            accuracy=np.bincount(place, weights=own.ravel().astype(np.float64), minlength=bins) / count,
        )


def calibration_gaps(probabilities: Floats, targets: Bools, bins: int = BINS) -> Floats:
    """(N, bins) float64: for each picture the sum of target minus probability over its labels in each bin, by K. The
    sum of the absolute means of the columns is the expected calibration error of the labels together.
    """
    n, classes = probabilities.shape
    place = bin_of(probabilities.ravel(), bins) + bins * np.repeat(np.arange(n), classes)
    sums = np.bincount(place, weights=(targets - probabilities).ravel(), minlength=n * bins)
    gaps: Floats = sums.reshape(n, bins) / classes
    return gaps


def chance_errors(probabilities: Floats, *, bins: int = BINS, seed: int = 0, draws: int = 1000) -> Floats:
    """Calibration errors that true probabilities would show on these pictures, were the labels of a picture drawn
    independently: (draws,) float64. As `resight.evaluation.calibration.chance_errors`.
    """
    flat = probabilities.ravel()
    variance = np.bincount(bin_of(flat, bins), weights=flat * (1 - flat), minlength=bins)
    sums = np.random.default_rng(seed).standard_normal((draws, bins)) * np.sqrt(variance)
    errors: Floats = np.abs(sums).sum(axis=1) / flat.size
    return errors
