"""What several corruptions are made of: blurs, curved sampling, fractal clouds. Arrays are float32 in 0 … 1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


def gaussian(values: Floats, deviation: float, truncate: float = 4.0) -> Floats:
    """(H, W, C) smoothed by a Gaussian, in pixels; beyond the edge the picture is mirrored (d c b a | a b c d).

    Each direction is one product with a matrix, so that the time does not depend on the deviation.
    """
    if deviation <= 0:
        return values
    rows, columns = (_smoothing(side, float(deviation), truncate) for side in values.shape[:2])
    planes = rows @ np.moveaxis(values, 2, 0) @ columns.T
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2))


@lru_cache(maxsize=64)
def _smoothing(side: int, deviation: float, truncate: float) -> Floats:
    """float32 (side, side): row i holds what each pixel gives to pixel i, the mirrored ones folded in."""
    radius = int(truncate * deviation + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((side, side))
    for row in range(side):
        np.add.at(matrix[row], _mirrored(row + offsets, side), weights)
    return matrix.astype(np.float32)


def _mirrored(positions: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Positions beyond 0 … side - 1 as they fall after mirroring at the edges, however often."""
    folded = positions % (2 * side)
    return np.where(folded < side, folded, 2 * side - 1 - folded)


def convolve(values: Floats, kernel: NDArray[np.float64]) -> Floats:
    """(H, W, C) convolved with an odd (h, w) kernel, through Fourier's transform; the edge is mirrored."""
    height, width = values.shape[:2]
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    rows, columns = _mirrored(np.arange(-up, height + up), height), _mirrored(np.arange(-left, width + left), width)
    padded = values[rows][:, columns]
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[:, :, None]
    whole = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return whole[2 * up : 2 * up + height, 2 * left : 2 * left + width].astype(np.float32)


def streak(deviation: float, length: float, angle: float) -> NDArray[np.float64]:
    """The kernel of a motion: a half Gaussian along a line that starts at the pixel, ``angle`` in radians.

    It ends at ``length`` pixels. Sampled four times a pixel, shared out to the nearest four pixels.
    """
    steps = np.arange(0, max(length, 0.25), 0.25)
    weights = np.exp(-0.5 * (steps / max(deviation, 1e-6)) ** 2)
    x, y = steps * np.cos(angle), steps * np.sin(angle)
    reach = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = (1 - np.abs(x - left - right)) * (1 - np.abs(y - top - down))
        np.add.at(kernel, (top + down + reach, left + right + reach), weights * share)
    shares: NDArray[np.float64] = kernel / kernel.sum()
    return shares


def sample(values: Floats, y: NDArray[np.float64], x: NDArray[np.float64]) -> Floats:
    """(H, W, C) at fractional positions (h, w), bilinear; beyond the edge it is mirrored."""
    height, width = values.shape[:2]
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = (y - top).astype(np.float32)[..., None], (x - left).astype(np.float32)[..., None]
    rows = _mirrored(top, height), _mirrored(top + 1, height)
    columns = _mirrored(left, width), _mirrored(left + 1, width)
    upper = values[rows[0], columns[0]] * (1 - right) + values[rows[0], columns[1]] * right
    lower = values[rows[1], columns[0]] * (1 - right) + values[rows[1], columns[1]] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def enlarge(field: Floats, height: int, width: int) -> Floats:
    """A (h, w) field, stretched to (height, width) with straight lines between its values."""
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BILINEAR))


def cloud(height: int, width: int, decay: float, random: np.random.Generator) -> Floats:
    """(height, width) in 0 … 1: fractal noise by diamonds and squares (Fournier, Fussell and Carpenter 1982).

    Each halving of the distance divides what is random by ``decay`` squared: as in the authors' generator, whose
    amplitude enters twice. The field is periodic, its side the next power of two.
    """
    side = 1 << (max(height, width, 2) - 1).bit_length()
    field = np.zeros((1, 1))
    amplitude = 1.0

    def shaken(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return sums / 4 + random.uniform(-amplitude, amplitude, sums.shape)

    while len(field) < side:
        n = len(field)
        finer = np.empty((2 * n, 2 * n))
        finer[::2, ::2] = field
        right = field + np.roll(field, -1, axis=1)
        middle = shaken(right + np.roll(right, -1, axis=0))
        finer[1::2, 1::2] = middle
        finer[::2, 1::2] = shaken(right + middle + np.roll(middle, 1, axis=0))
        below = field + np.roll(field, -1, axis=0)
        finer[1::2, ::2] = shaken(below + middle + np.roll(middle, 1, axis=1))
        field, amplitude = finer, amplitude / decay**2
    field -= field.min()
    field /= max(field.max(), 1e-12)
    return field[:height, :width].astype(np.float32)
