"""From the tiles of a picture to its answer: a softmax over their attention, as they come, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Pool:
    """Σ softmax(a)ₜ xₜ over the tiles t of one picture, for any number of quantities x (Ilse et al. 2018, eq. 7).

    The last layer is linear, so pooling its outputs is the same as pooling features first and asking it then. Tiles are
    added in groups: only running sums are kept, in float64 and relative to the largest attention so far, so nothing
    overflows and the groups do not matter beyond the rounding of float64.
    """

    def __init__(self) -> None:
        self._top = -np.inf
        self._weight = 0.0
        self._sums: list[Doubles] = []

    def add(self, attention: NDArray[Any], *values: NDArray[Any]) -> None:
        """attention: (n,), finite, n ≥ 1. values: the same number of arrays each time, each (n, …)."""
        scores = attention.astype(np.float64)
        top = max(self._top, float(scores.max()))
        kept = float(np.exp(self._top - top))  # 0 at first
        weights = np.exp(scores - top)
        sums = [np.tensordot(weights, value.astype(np.float64), axes=1) for value in values]
        self._sums = [kept * old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._weight = kept * self._weight + float(weights.sum())
        self._top = top

    @property
    def log_sum(self) -> float:
        """log Σ exp(aₜ): with it, exp(aₜ − log_sum) is the share of a tile."""
        return self._top + float(np.log(self._weight))

    def result(self) -> list[Doubles]:
        """The pooled quantities, float64."""
        return [total / self._weight for total in self._sums]


def shares(attention: Sequence[NDArray[Any]], pool: Pool) -> Doubles:
    """The share of each tile in the answer, float64 (N,), of the attention that was added to ``pool``. Sums to 1."""
    found: Doubles = np.exp(np.concatenate(attention).astype(np.float64) - pool.log_sum)
    return found
