"""How fast an adaptive backend is beside the whole network: on real pictures, as its time depends on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from resight.inference import UNLIKE, Predictor
from resight.inference.backend import ROUTE, Backend, Floats, Pixels

ROUNDS, SECONDS, MOST = 7, 1.5, 96
SIXTEEN = 16
_ANSWER = ("probabilities",)


@dataclass(frozen=True)
class Pace:
    """Beside the whole network, sides taking turns in one process. one, sixteen: times as fast, for single pictures and
    for 16 at once: the median of the rounds' ratios, and the least and the largest of them. whole, routes: seconds for
    a single picture, by the whole network and by each route (None for one that no timed picture took), medians.
    pictures: how many were asked for in each round. likely: the lower quartiles of ``one`` and ``sixteen``.
    """

    one: tuple[float, float, float]
    sixteen: tuple[float, float, float]
    whole: float
    routes: tuple[float | None, ...]
    pictures: int
    rounds: int
    likely: tuple[float, float]

    @property
    def faster(self) -> bool:
        """Both ways of asking, in three rounds of four at least: half of them would be chance."""
        return min(self.likely) > 1

    @property
    def worst(self) -> float:
        """Of the slowest route."""
        return max(one for one in self.routes if one is not None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"worst": self.worst}


@dataclass(frozen=True, eq=False)
class Asking:
    """A predictor as a backend that is timed: each answer is one of `predict`'s, which also says whether a picture is
    unknown where its Run or artefact tells.
    """

    predictor: Predictor

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        more = () if self.predictor.unknowns is None else (UNLIKE,)
        return self.predictor.ask(pixels, (*outputs, *more))[: len(outputs)]


def evenly_mixed(routes: Floats, most: int, seed: int = 0) -> list[int]:
    """At most ``most`` positions of pictures whose routes (N,) are mixed as in all; in an order drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(routes))
    sorted_ = order[np.argsort(routes[order], kind="stable")]
    chosen = sorted_[np.unique(np.linspace(0, len(routes) - 1, min(most, len(routes))).round().astype(int))]
    return [int(k) for k in np.random.default_rng(seed).permutation(chosen)]


def pace(
    whole: Backend, adaptive: Backend, pixels: Pixels, routes: int, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> Pace:
    """Asks both for validation pictures, uint8 (N, S, S, C), that are mixed as all are: in each round one by one, then
    16 at a time. A round takes about ``seconds`` a side at most, by fewer pictures.
    """
    (taken,) = _answered(adaptive, pixels, (ROUTE,))
    start = time.perf_counter()
    for row in pixels[:3]:
        whole.answer(row[None], _ANSWER)
    each = (time.perf_counter() - start) / 3
    number = max(SIXTEEN, min(MOST, int(seconds / max(each, 1e-6))))
    chosen = evenly_mixed(taken, number)
    asked, own = np.ascontiguousarray(pixels[chosen]), taken[chosen].astype(int)
    one, sixteen, alone = [], [], []
    by_route: list[list[float]] = [[] for _ in range(routes)]
    for _ in range(rounds):
        base, mine = (_single(side, asked) for side in (whole, adaptive))
        one.append(sum(base) / sum(mine))
        alone += base
        for route in np.unique(own):
            on = np.flatnonzero(own == route)
            by_route[route].append(sum(mine[k] for k in on) / sum(base[k] for k in on))
        base_time, own_time = (_seconds(partial(_answered, side, asked, _ANSWER)) for side in (whole, adaptive))
        sixteen.append(base_time / own_time)
    return Pace(
        _spread(one),
        _spread(sixteen),
        median(alone),
        tuple(median(found) if found else None for found in by_route),
        len(asked),
        rounds,
        (_quartile(one), _quartile(sixteen)),
    )


def _single(backend: Backend, pixels: Pixels) -> list[float]:
    return [_seconds(partial(backend.answer, row, _ANSWER)) for row in np.split(pixels, len(pixels))]


def _answered(backend: Backend, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
    parts = [backend.answer(pixels[k : k + SIXTEEN], outputs) for k in range(0, len(pixels), SIXTEEN)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _seconds(ask: Callable[[], object]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


def _quartile(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.25))


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)
