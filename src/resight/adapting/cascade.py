"""Which threshold: a cascade's accuracy and time for every share of pictures that goes on. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.evaluation import Estimate, compare_answers, fit_temperature
from resight.inference.backend import Floats
from resight.inference.plan import confidence

Ints = NDArray[np.int64]
POINTS = 41


@dataclass(frozen=True)
class Point:
    """A cascade with one threshold, on the validation part. on: the share of pictures that goes on to the whole
    network. accuracy in 0 … 1. seconds: expected for a picture that is asked for alone.
    """

    threshold: float
    on: float
    accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Two:
    """Two networks' answers on N validation pictures: logits (N, K) of both, as the networks give them, labels (N,),
    and the seconds that each takes for a picture. temperatures are fitted on these. reference: the logits (N, K) that
    losses are counted against, where these are not those of ``whole``: of fp32, where both networks are int8.
    """

    small: Floats
    whole: Floats
    labels: Ints
    seconds: tuple[float, float]
    temperatures: tuple[float, float]
    reference: Floats

    @classmethod
    def of(
        cls,
        small: Floats,
        whole: Floats,
        labels: Ints,
        seconds: tuple[float, float],
        reference: Floats | None = None,
    ) -> Two:
        fitted = (fit_temperature(small, labels), fit_temperature(whole, labels))
        return cls(small, whole, labels, seconds, fitted, whole if reference is None else reference)

    def on(self, threshold: float) -> NDArray[np.bool_]:
        """Which pictures go on: the small network's calibrated confidence is below ``threshold``."""
        found: NDArray[np.bool_] = confidence(self.small, self.temperatures[0]) < threshold
        return found

    def answered(self, threshold: float) -> Ints:
        """The class that the cascade answers for each picture."""
        found: Ints = np.where(self.on(threshold), self.whole.argmax(axis=1), self.small.argmax(axis=1))
        return found

    def logits(self, threshold: float) -> Floats:
        """What the cascade answers, each divided by the temperature of its network."""
        small, whole = (one / t for one, t in zip((self.small, self.whole), self.temperatures, strict=True))
        found: Floats = np.where(self.on(threshold)[:, None], whole, small).astype(np.float32)
        return found

    def drop(self, threshold: float, classes: Sequence[str]) -> Estimate:
        """Accuracy of the reference minus the cascade's, with a paired 95 % interval."""
        own = self.answered(threshold)
        return compare_answers(self.reference.argmax(axis=1), own, self.labels, classes).overall.difference

    def point(self, threshold: float) -> Point:
        on = float(self.on(threshold).mean())
        accuracy = float((self.answered(threshold) == self.labels).mean())
        return Point(threshold, on, accuracy, self.seconds[0] + on * self.seconds[1])


def curve(two: Two, points: int = POINTS) -> tuple[Point, ...]:
    """From nobody going on to everybody, at evenly spaced shares. A threshold lies half-way between the confidences of
    two validation pictures, so that it is at none of them; equal ones go the same way.
    """
    sure = np.sort(confidence(two.small, two.temperatures[0]))
    between = (sure[1:] + sure[:-1]) / 2
    inner = between[(np.linspace(0, 1, points)[1:-1] * len(between)).astype(int)] if len(between) else between
    thresholds = [0.0, *np.unique(inner).tolist(), 1.0]
    return tuple(two.point(float(threshold)) for threshold in thresholds)


def operating_point(points: Sequence[Point], whole: float, max_drop: float) -> Point | None:
    """The quickest whose accuracy is at most ``max_drop`` points below ``whole`` (0 … 1), by the point estimate; None
    where there is none.
    """
    good = [point for point in points if 100 * (whole - point.accuracy) <= max_drop + 1e-9]
    return min(good, key=lambda point: point.seconds, default=None)


def plain_points(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{"threshold": p.threshold, "on": p.on, "accuracy": p.accuracy, "seconds": p.seconds} for p in points]
