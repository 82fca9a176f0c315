"""How long looking at some tiles takes beside looking at all: on real pictures, sides taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from resight.adapting.patches.policy import TileCosts
from resight.images import Geometry, tile_boxes
from resight.inference.backend import Pixels
from resight.inference.patches import Patches
from resight.inference.tiled import LOGITS, TiledSharing

ROUNDS, PICTURES = 7, 4


@dataclass(frozen=True)
class TilePace:
    """From decoded pictures to answers. times: how often as fast as looking at all tiles, over rounds: median, least,
    largest. likely: the lower quartile. whole: seconds for a picture with all tiles; policy: the part of these that the
    choice of tiles takes, 0 … 1; medians. pictures: in each round.
    """

    times: tuple[float, float, float]
    likely: float
    whole: float
    policy: float
    pictures: int
    rounds: int

    @property
    def faster(self) -> bool:
        """In three rounds of four at least: half of them would be chance."""
        return self.likely > 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def tile_pace(
    whole: TiledSharing,
    some: TiledSharing,
    choose: Callable[[Pixels], object],
    pictures: Sequence[Pixels],
    *,
    rounds: int = ROUNDS,
) -> TilePace:
    """choose: what ``some`` does before it looks at tiles."""
    for side in (whole, some):
        side.answer(pictures[0], (LOGITS,))
    all_, own, choosing = [], [], []
    for _ in range(rounds):
        spent = np.zeros(3)
        for picture in pictures:
            ways: tuple[Callable[[], object], ...] = (
                partial(whole.answer, picture, (LOGITS,)),
                partial(some.answer, picture, (LOGITS,)),
                partial(choose, picture),
            )
            spent += [_seconds(way) for way in ways]
        all_.append(spent[0])
        own.append(spent[1])
        choosing.append(spent[2])
    times = [a / b for a, b in zip(all_, own, strict=True)]
    return TilePace(
        (median(times), min(times), max(times)),
        float(np.quantile(times, 0.25)),
        median(all_) / len(pictures),
        median(c / a for a, c in zip(all_, choosing, strict=True)),
        len(pictures),
        rounds,
    )


def measure_costs(
    geometry: Geometry, whole: TiledSharing, patches: Patches, pictures: Sequence[Pixels], rounds: int = 3
) -> TileCosts:
    """Of a policy as yet untrained, which takes as long as a trained one."""
    tiles = sum(len(tile_boxes(geometry, *picture.shape[:2])) for picture in pictures)
    looking, choosing = [], []
    for _ in range(rounds):
        looking.append(sum(_seconds(partial(whole.answer, picture, (LOGITS,))) for picture in pictures))
        choosing.append(
            sum(
                _seconds(partial(patches.chosen, geometry, picture, tile_boxes(geometry, *picture.shape[:2])))
                for picture in pictures
            )
        )
    return TileCosts(median(choosing) / tiles, median(looking) / tiles)


def _seconds(ask: Callable[[], object]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start
