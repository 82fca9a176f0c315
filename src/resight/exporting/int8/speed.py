"""How fast candidates answer, beside fp32: sessions in one process that take turns, so that a slow minute hits all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from resight.inference.backend import Backend
from resight.inference.measure import rate

BATCHES = (1, 16)
ROUNDS, SECONDS = 5, 0.3
_ANSWER = ("probabilities",)


@dataclass(frozen=True)
class Rates:
    """Pictures a second: one at a time, and 16 at a time; medians."""

    one: float
    sixteen: float

    def faster_than(self, others: Sequence[Rates]) -> bool:
        """Than the best of the others, in both ways of asking."""
        return all(self.one > other.one and self.sixteen > other.sixteen for other in others)


def measure_rates(
    sides: Mapping[str, Backend], shape: Sequence[int], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, Rates]:
    """Of each side, in the order A B … A B …: ``rounds`` times ``seconds`` for each size of batch. shape: (S, S, C)."""
    noise = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *shape), dtype=np.uint8)
    found: dict[str, list[list[float]]] = {name: [[] for _ in BATCHES] for name in sides}
    for _ in range(rounds):
        for number, batch in enumerate(BATCHES):
            for name, backend in sides.items():
                asked = noise[:batch]
                found[name][number].append(batch * rate(partial(backend.answer, asked, _ANSWER), seconds))
    return {name: Rates(*(median(rates) for rates in each)) for name, each in found.items()}
