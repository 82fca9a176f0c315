"""What a policy is rewarded for, and what its choices cost. NumPy only: the environment and the trainer share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
PENALTY = 5.0


@dataclass(frozen=True)
class Costs:
    """fixed: seconds of what is always computed: stem, blocks that cannot be dropped, head. blocks: seconds of each
    block that can. For a single picture, as measured on this machine.
    """

    fixed: float
    blocks: tuple[float, ...]

    @property
    def whole(self) -> float:
        return self.fixed + sum(self.blocks)

    def shares(self, kept: Any) -> Doubles:
        """Of policies (N, L), 1 for a block that is kept: their seconds as a part of the whole network's, (N,)."""
        found: Doubles = (self.fixed + np.asarray(kept, np.float64) @ np.array(self.blocks)) / self.whole
        return found


def rewards(right: Any, shares: Any, penalty: float) -> Doubles:
    """1 − (cost / full cost)² where the answer is right, −γ where it is wrong (Wu et al. 2018, equation 4, with time
    instead of the number of blocks). right: bool (N,); shares: (N,) in 0 … 1; penalty: γ ≥ 0.
    """
    return np.where(np.asarray(right, bool), 1.0 - np.asarray(shares, np.float64) ** 2, -penalty)
