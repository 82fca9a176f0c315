"""Blur: out of focus, through frosted glass, by motion, by zooming. float32 (H, W, C) in 0 … 1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.evaluation.corruptions.filters import Floats, convolve, gaussian, streak


def defocus_blur(x: Floats, random: np.random.Generator, radius: float, softness: float) -> Floats:
    """Every point becomes a disc, as in a camera that is not focused; its edge is softened a little."""
    return gaussian(convolve(x, _disc(radius)), softness)


@lru_cache(maxsize=16)
def _disc(radius: float) -> NDArray[np.float64]:
    """The share of each pixel that a disc covers, counted on 16 × 16 points of it: right for fractional radii too."""
    reach = int(np.ceil(radius + 0.5))
    points = (np.arange((2 * reach + 1) * 16) + 0.5) / 16 - reach - 0.5
    inside = np.add.outer(points**2, points**2) <= radius**2
    kernel = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).sum(axis=(1, 3)).astype(np.float64)
    if not kernel.sum():  # a disc that is smaller than the points
        kernel[reach, reach] = 1
    shares: NDArray[np.float64] = kernel / kernel.sum()
    return shares


def glass_blur(x: Floats, random: np.random.Generator, deviation: float, distance: float, rounds: float) -> Floats:
    """Frosted glass: blurred, then every pixel takes the place of a near one, some rounds, then blurred.

    ``distance``, in rows and in columns, is at least one pixel. The paper speaks of an exchange; in the authors'
    generator the first of two coloured pixels is overwritten, so that the published pictures are these.
    """
    far = max(1, round(distance))
    height, width = x.shape[:2]
    y, x_ = np.indices((height, width))
    shuffled = gaussian(x, deviation)
    for _ in range(int(rounds)):
        down, right = random.integers(-far, far, (2, height, width))
        shuffled = shuffled[np.clip(y + down, 0, height - 1), np.clip(x_ + right, 0, width - 1)]
    return gaussian(shuffled, deviation)


def motion_blur(x: Floats, random: np.random.Generator, radius: float, deviation: float) -> Floats:
    """A moving camera: every point draws a fading line, within 45 degrees of horizontal."""
    angle = np.deg2rad(random.uniform(-45, 45))
    return convolve(x, streak(deviation, 2 * radius + 1, float(angle)))


def zoom_blur(x: Floats, random: np.random.Generator, largest: float, step: float) -> Floats:
    """Moving towards the scene while the shutter is open: the mean of the picture and its enlargements."""
    height, width, channels = x.shape
    pixels = np.rint(x * 255).astype(np.uint8)
    picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    zooms = np.arange(1, largest + step / 2, step)
    total = x * 255
    for zoom in zooms:
        dx, dy = (width - width / zoom) / 2, (height - height / zoom) / 2
        box = (dx, dy, width - dx, height - dy)
        enlarged = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
        total += np.asarray(enlarged, np.float32).reshape(x.shape)
    mean: Floats = total / np.float32(255 * (len(zooms) + 1))
    return mean
