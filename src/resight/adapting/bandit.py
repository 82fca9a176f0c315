"""The environment of a Run: observations from its stem, answers from its sub-networks, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from resight.adapting.environment import BlocksEnvironment
from resight.adapting.gated import Gated, averaged
from resight.adapting.rewards import PENALTY, Costs
from resight.exporting.squares import squares
from resight.models.from_run import network_of
from resight.runs import Run
from resight.samples import SampleSet
from resight.training.objective import Normalize

_AT_ONCE = 64
_REMEMBERED = 200_000


class SubNetworks:
    """What the stem has seen of N pictures, and what each sub-network answers for them; remembered, as the network does
    not learn. pixels: uint8 (N, S, S, C).
    """

    def __init__(self, gated: Gated, normalize: Normalize, pixels: NDArray[np.uint8]) -> None:
        self._gated = gated.eval()
        with torch.no_grad():
            parts = [
                gated.stem(normalize(torch.from_numpy(pixels[k : k + _AT_ONCE]).permute(0, 3, 1, 2)))
                for k in range(0, len(pixels), _AT_ONCE)
            ]
            self._stem = torch.cat(parts)
            self.observations: NDArray[np.float32] = averaged(self._stem).flatten(1).numpy()
        self._known: dict[tuple[int, bytes], int] = {}

    @torch.no_grad()
    def answer(self, picture: int, kept: NDArray[np.bool_]) -> int:
        """See ``environment.Answer``."""
        key = picture, np.packbits(kept).tobytes()
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            logits = self._gated.answered(self._stem[picture : picture + 1], torch.from_numpy(kept)[None])
            self._known[key] = int(logits.argmax())
        return self._known[key]


def environment_of(
    run: Run,
    samples: SampleSet,
    costs: Costs,
    *,
    part: str = "train",
    most: int = 2000,
    penalty: float = PENALTY,
    threads: int = 1,
) -> BlocksEnvironment:
    """Of at most ``most`` pictures of a part, evenly spaced. costs: see ``policies.measure_costs``.

    Raises UsageError for a network whose blocks cannot be dropped, DataError for pictures that cannot be read.
    """
    indices = _evenly([i for i, sample in enumerate(samples.samples) if sample.split == part], most)
    pixels = np.stack(list(squares(run, samples, indices, threads)))
    labels = samples.targets([samples.samples[i] for i in indices])
    networks = SubNetworks(Gated(network_of(run)), Normalize(run.card.mean, run.card.std), pixels)
    return BlocksEnvironment(networks.observations, labels, networks.answer, costs, penalty)


def _evenly(indices: Sequence[int], most: int) -> list[int]:
    places = np.unique(np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int))
    return [indices[k] for k in places]
