"""Does a map point at what the answer rests on? Deletion and insertion (Petsiuk et al. 2018, section 4.2).

**Deletion**: the places that the map calls most important are replaced first, by the mean colour of the training data;
the faster the probability falls, the better: a small area under its curve. **Insertion**: starting from a strongly
blurred picture, they are put back first; the faster the probability rises, the better: a large area.

Both areas depend on the picture and on how smooth the map is, so neither says anything alone. They are compared with
those of random maps **of the same smoothness**: the same map with random phases, which has its mean and its
autocorrelation (Theiler et al. 1992), but points nowhere. Needs forward passes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from resight.explaining.overlay import upsample

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Ask = Callable[[Pixels], Floats]
"""uint8 (N, S, S, C) → the probability of the class that is explained, float32 (N,)."""

STEPS, RANDOM, LEVEL = 10, 19, 0.05
GOOD = "the map points at what the answer rests on"
BAD = "no better than a random map: do not rely on it"


@dataclass(frozen=True)
class Faithfulness:
    """One map against random ones.

    deletion, insertion: areas under the curves of the probability, 0 … 1. random_deletion, random_insertion: those of
    R random maps, float64 (R,).
    """

    deletion: float
    insertion: float
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]

    @property
    def score(self) -> float:
        """Insertion minus deletion, −1 … 1: larger is better."""
        return self.insertion - self.deletion

    @property
    def random_scores(self) -> NDArray[np.float64]:
        return self.random_insertion - self.random_deletion

    @property
    def p_value(self) -> float:
        """How often a random map would score as well: (1 + those that do) / (1 + R), a permutation test."""
        return (1 + int((self.random_scores >= self.score).sum())) / (1 + len(self.random_scores))

    @property
    def faithful(self) -> bool:
        """Whether at most one random map in twenty scores as well."""
        return self.p_value <= LEVEL

    @property
    def verdict(self) -> str:
        return GOOD if self.faithful else BAD


def faithfulness(
    square: Pixels,
    heat: Floats,
    ask: Ask,
    mean: tuple[float, ...],
    *,
    steps: int = STEPS,
    random: int = RANDOM,
    seed: int = 0,
) -> Faithfulness:
    """Compare ``heat`` (h, w), of the square uint8 (S, S, C), with ``random`` maps of the same smoothness.

    mean: of the training data, per channel, in 0 … 1. steps: in how many equal parts pixels are taken away and put
    back. Fewer than 19 random maps cannot show that a map is faithful. Asks for 2 · (steps − 1) · (random + 1) + 3
    pictures.
    """
    grey, blurred = deleted(square, mean), blur(square)
    ends = ask(np.stack([square, grey, blurred])).astype(np.float64)
    maps = [heat, *random_maps(heat, random, seed)]
    found = np.array([_areas(square, grey, blurred, one, ask, ends, steps) for one in maps])
    return Faithfulness(float(found[0, 0]), float(found[0, 1]), found[1:, 0], found[1:, 1])


def _areas(
    square: Pixels, grey: Pixels, blurred: Pixels, heat: Floats, ask: Ask, ends: NDArray[np.float64], steps: int
) -> tuple[float, float]:
    """Of deletion and insertion. ``ends``: the probabilities of the square, the grey and the blurred one."""
    place = rank(heat, len(square))
    between = np.concatenate([exchanged(square, grey, place, steps), exchanged(blurred, square, place, steps)])
    fall, rise = np.split(ask(between).astype(np.float64), 2)
    return area([ends[0], *fall, ends[1]]), area([ends[2], *rise, ends[0]])


def rank(heat: Floats, side: int) -> NDArray[np.int64]:
    """For each pixel of the square its place in the map's order, 0 the most important: int64 (S, S). Equal ones in the
    order of reading.
    """
    order = np.argsort(-upsample(heat, side, side).ravel(), kind="stable")
    places = np.empty(side * side, np.int64)
    places[order] = np.arange(side * side)
    return places.reshape(side, side)


def exchanged(first: Pixels, second: Pixels, places: NDArray[np.int64], steps: int) -> Pixels:
    """``first`` with its most important pixels from ``second``: 1/steps of them, 2/steps, … without the two ends,
    uint8 (steps − 1, S, S, C).
    """
    shares = np.arange(1, steps) * (places.size / steps)
    taken = places[None] < shares[:, None, None]
    return np.where(taken[..., None], second[None], first[None])


def area(curve: list[float] | NDArray[np.float64]) -> float:
    """Under a curve of equally spaced values over 0 … 1, by trapezoids."""
    values = np.asarray(curve, np.float64)
    return float((values[:-1] + values[1:]).mean() / 2)


def deleted(square: Pixels, mean: tuple[float, ...]) -> Pixels:
    """A square of the mean colour: what is left when everything is deleted."""
    return np.broadcast_to(np.round(255 * np.clip(mean, 0, 1)).astype(np.uint8), square.shape).copy()


def blur(square: Pixels) -> Pixels:
    """The square, blurred so far that hardly a class is recognised: a Gaussian of a twelfth of its side."""
    radius = max(2.0, len(square) / 12)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(square, 2, 0)]
    return np.stack([np.array(plane.filter(ImageFilter.GaussianBlur(radius))) for plane in planes], axis=2)


def random_maps(heat: Floats, count: int, seed: int) -> Floats:
    """``count`` maps with the amplitudes of ``heat``'s spectrum and random phases, float32 (count, h, w).

    Mean, variance and autocorrelation are those of ``heat``, with its borders joined; where it points is not. A map of
    one cell stays as it is.
    """
    generator = np.random.default_rng([seed, *heat.shape])
    noise = generator.standard_normal((count, *heat.shape))
    phases = np.fft.rfft2(noise)
    spectrum = np.abs(np.fft.rfft2(heat)) * phases / np.maximum(np.abs(phases), 1e-12)
    spectrum[:, 0, 0] = heat.sum()
    return np.fft.irfft2(spectrum, s=heat.shape).astype(np.float32)
