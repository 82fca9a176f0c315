"""A Gymnasium environment of a Run and its pictures: which blocks does this one need?

One step is an episode, as a picture asks for one decision (a contextual bandit):

- **observation**: what the network's stem has seen of the picture, averaged over squares, float32 (D,);
- **action**: ``MultiBinary(L)``, 1 for a block that is kept;
- **reward**: 1 − (cost / full cost)² where the sub-network answers rightly, −γ where it does not; the cost is time as
  measured on this machine (`resight.adapting.rewards`).

Any library for reinforcement learning can use it: ``examples/adapt_ppo.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from resight.adapting.rewards import PENALTY, Costs, rewards
from resight.errors import UsageError

Kept = NDArray[np.bool_]
Answer = Callable[[int, Kept], int]
"""The class that the sub-network of a policy, bool (L,), answers for the picture at a position."""


class BlocksEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.int8]]):
    """observations: float32 (N, D). labels: int (N,). answer: see ``Answer``. costs: of the blocks. penalty: γ.

    ``info`` of a step has ``right``, ``share`` (of the full cost), ``picture`` (its position) and ``label``.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        observations: NDArray[np.float32],
        labels: NDArray[np.int64],
        answer: Answer,
        costs: Costs,
        penalty: float = PENALTY,
    ) -> None:
        if observations.ndim != 2 or len(observations) != len(labels) or not len(labels):
            raise UsageError(f"{observations.shape} observations do not fit {len(labels)} labels")
        if penalty < 0:
            raise UsageError(f"the penalty is {penalty:g}; expected 0 or more")
        self._observations, self._labels, self._answer = observations.astype(np.float32), labels, answer
        self._costs, self._penalty, self._picture = costs, penalty, 0
        low, high = float(observations.min()), float(observations.max())
        self.observation_space = gymnasium.spaces.Box(low, high, (observations.shape[1],), np.float32)
        self.action_space = gymnasium.spaces.MultiBinary(len(costs.blocks))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Another picture, drawn by the seed; with ``options={"picture": k}`` the one at this position."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(len(self._labels)))
        self._picture = int((options or {}).get("picture", drawn))
        return self._observations[self._picture].copy(), {"picture": self._picture}

    def step(self, action: NDArray[np.int8]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        kept = np.asarray(action, bool)
        if kept.shape != (len(self._costs.blocks),):
            raise UsageError(f"an action of {kept.shape}; expected 0 or 1 for each of {len(self._costs.blocks)} blocks")
        right = self._answer(self._picture, kept) == self._labels[self._picture]
        share = float(self._costs.shares(kept[None])[0])
        reward = float(rewards([right], [share], self._penalty)[0])
        info = {"right": bool(right), "share": share, "picture": self._picture}
        return self._observations[self._picture].copy(), reward, True, False, info
