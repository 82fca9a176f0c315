"""The learning-rate finder: the rate rises from update to update, and the loss says where it is too high.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", §3.3; the exponential ramp, the smoothing and the
steepest point as in fastai (Howard and Gugger 2020). fastai's other reading, one tenth of the lowest point, was far too
low for the peak of a schedule (docs/tune.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resight.errors import NonFiniteLoss
from resight.training.batches import to_device

if TYPE_CHECKING:
    from resight.training.fit import Training

SMOOTH = 0.9  # an average over some ten updates
LAG = round(SMOOTH / (1 - SMOOTH))  # updates that the average is behind a straight line
SETTLED = 10  # updates after which the average is one, and no single loss
DIVERGED = 4.0  # times the lowest smoothed loss
_FELL = 0.03  # of the loss at the start, at least, before anything is suggested
_ROSE = 0.25  # of the fall so far: then the lowest point is behind


@dataclass(frozen=True)
class Curve:
    """rates, losses, smoothed: one number for each update. ended: why there is no further one: ``diverged``, ``not
    finite`` or ``highest rate``. lowest: rate of the lowest smoothed loss. steepest: where it falls fastest before."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str

    @property
    def lowest(self) -> float | None:
        """None where the loss never fell."""
        return self.rates[self._lowest] if self.fell else None

    @property
    def steepest(self) -> float | None:
        """Where the smoothed loss falls fastest by the logarithm of the rate, before its lowest point."""
        last = self._lowest if self.fell else 0
        if last < SETTLED + 2:
            return None
        part = slice(SETTLED, last + 1)
        slope = np.gradient(self.smoothed[part], np.log(self.rates[part]))
        return self.rates[SETTLED + int(np.argmin(slope))]

    @property
    def _lowest(self) -> int:
        """Of the first valley: nets with norms may fall once more at rates that are far too high, where the scale of
        their weights has exploded and each update turns them but little."""
        best = SETTLED
        for number in range(SETTLED, len(self.smoothed)):
            if self.smoothed[number] < self.smoothed[best]:
                best = number
            fall = self.smoothed[SETTLED - 1] - self.smoothed[best]
            if self._is_fall(fall) and self.smoothed[number] > self.smoothed[best] + _ROSE * fall:
                break
        return best

    def _is_fall(self, fall: float) -> bool:
        return fall > _FELL * self.smoothed[SETTLED - 1]

    @property
    def suggestion(self) -> float | None:
        """For the peak of a schedule, to two significant digits: the highest rate at which the loss still fell (Smith
        2017, §3.3), which is ``LAG`` updates before ``lowest``, since the average shows it that much too late."""
        return float(f"{self.rates[self._lowest - LAG]:.2g}") if self.fell else None

    @property
    def fell(self) -> bool:
        """Whether the smoothed loss came clearly below its start: the average over the first updates."""
        if len(self.smoothed) <= SETTLED:
            return False
        return self._is_fall(self.smoothed[SETTLED - 1] - self.smoothed[self._lowest])

    @property
    def open_end(self) -> bool:
        """Whether the loss was lowest so near to the highest rate that no rise was seen after it."""
        return self.ended == "highest rate" and self.fell and self._lowest > 0.95 * (len(self.smoothed) - 1)


def ramp(low: float, high: float, updates: int) -> list[float]:
    """Rates from ``low`` to ``high``, each the same factor above the one before."""
    return [low * (high / low) ** (n / max(1, updates - 1)) for n in range(updates)]


def smooth(losses: Sequence[float], weight: float = SMOOTH) -> list[float]:
    """Exponential moving average from nothing, divided by what its weights sum to (as in Kingma and Ba 2015, §3)."""
    average, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = weight * average + (1 - weight) * loss
        found.append(average / (1 - weight**number))
    return found


def sweep(training: Training, rates: Sequence[float], told: Callable[[int, float], None]) -> Curve:
    """Real updates of ``training`` at these rates, until the loss diverges. told: (updates done, smoothed loss).

    ``training.config`` must have a constant schedule without warm-up. Uses ``training`` up: it must not be used for
    anything else afterwards; nothing is written.
    """
    losses: list[float] = []
    ended, best = "highest rate", math.inf
    for step, rate in enumerate(rates):
        training.config.optimizer.lr = rate
        before = training.state.loss_sum, training.state.seen
        try:
            training.update(to_device(training.loader.make(step), training.device))
        except NonFiniteLoss:
            ended = "not finite"
            break
        losses.append((training.state.loss_sum - before[0]) / (training.state.seen - before[1]))
        smoothed = smooth(losses)[-1]
        told(step + 1, smoothed)
        best = min(best, smoothed)
        if smoothed > DIVERGED * best:
            ended = "diverged"
            break
    return Curve(tuple(rates[: len(losses)]), tuple(losses), tuple(smooth(losses)), ended)
