"""What processing does: low contrast, warping, few pixels, hard compression. float32 (H, W, C) in 0 … 1."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from resight.evaluation.corruptions.filters import Floats, gaussian, sample


def contrast(x: Floats, random: np.random.Generator, share: float) -> Floats:
    """Nearer to the mean of each channel."""
    means = x.mean(axis=(0, 1), keepdims=True)
    found: Floats = (x - means) * share + means
    return found


def elastic(x: Floats, random: np.random.Generator, amplitude: float, smoothing: float, corner: float) -> Floats:
    """Stretched like rubber: an affine map that moves three points at random, and a smooth field of shifts.

    All three are shares of the shorter side (Simard, Steinkraus and Platt 2003, for the field).
    """
    height, width = x.shape[:2]
    side = min(height, width)
    third = side // 3 or 1
    middle = np.array([height, width]) // 2
    points = middle + np.array([[third, third], [third, -third], [-third, -third]], np.float64)
    moved = points + random.uniform(-corner * side, corner * side, (3, 2))
    y, x_ = np.indices((height, width), np.float64)
    y, x_ = y + _shifts(x.shape, random, amplitude, smoothing), x_ + _shifts(x.shape, random, amplitude, smoothing)
    # Where a point of the result was before: the affine map that takes ``moved`` back to ``points``.
    back = np.linalg.lstsq(np.column_stack([moved, np.ones(3)]), points, rcond=None)[0]
    return sample(x, *(y * back[0, axis] + x_ * back[1, axis] + back[2, axis] for axis in (0, 1)))


def _shifts(shape: tuple[int, ...], random: np.random.Generator, amplitude: float, smoothing: float) -> Floats:
    side = min(shape[:2])
    field = random.uniform(-1, 1, (shape[0], shape[1], 1)).astype(np.float32)
    return gaussian(field, smoothing * side, truncate=3)[:, :, 0] * np.float32(amplitude * side)


def pixelate(x: Floats, random: np.random.Generator, share: float) -> Floats:
    """Averaged down to this share of the sides, and enlarged again without smoothing."""
    height, width = x.shape[:2]
    picture = _picture(x).resize((max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX)
    return _floats(picture.resize((width, height), Image.Resampling.BOX), x.shape)


def jpeg(x: Floats, random: np.random.Generator, quality: float) -> Floats:
    """Through a JPEG file of this quality."""
    stream = io.BytesIO()
    _picture(x).save(stream, "JPEG", quality=int(quality))
    with Image.open(stream) as picture:
        return _floats(picture, x.shape)


def _picture(x: Floats) -> Image.Image:
    pixels = np.rint(x * 255).astype(np.uint8)
    return Image.fromarray(pixels if x.shape[2] == 3 else pixels[:, :, 0])


def _floats(picture: Image.Image, shape: tuple[int, ...]) -> Floats:
    return np.asarray(picture, np.float32).reshape(shape) / np.float32(255)
