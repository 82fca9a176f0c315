"""Are two pictures the same one? Registered onto each other, then compared by correlation.

The second picture is modelled as a · first(sx · x + tx, sy · y + ty) + b: another brightness, contrast, crop, shift or
scale of the same picture. The four numbers are found by Gauss-Newton on the squared difference, forwards additive
(Lucas and Kanade 1981; Baker and Matthews 2004, section 2), with gain and bias free in each step; from three starts: as
it is, and one of them a centre crop of 0.95 of the other. Warping is separable: two products with 64 × 64 matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.doctor.hashes import SIDE

Floats = NDArray[np.float32]

_STEPS = 8
_STARTS = (1.0, 0.95, 1 / 0.95)
_LARGEST = 0.2  # scale may be 1 ± this, a shift this share of the side: beyond is another picture
_AXIS = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2


def agreement(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """uint8 (P, SIDE, SIDE) twice → correlations (P,) of grey values and of gradients, after the best registration.

    Both are in −1 … 1, over where the two overlap; 0 where a picture has no contrast.
    """
    first, second = _smooth(left.astype(np.float32)), _smooth(right.astype(np.float32))
    best = np.full((2, len(left)), -1, np.float32)
    for scale in _STARTS:
        found = np.stack(_register(first, second, scale))
        better = found.sum(axis=0) > best.sum(axis=0)
        best[:, better] = found[:, better]
    return best[0], best[1]


def coarse(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Floats:
    """Correlation (P,) of uint8 (P, D) rows as they are: what is not even alike needs no registration."""
    one, other = (rows.astype(np.float32) for rows in (left, right))
    return _correlation(one, other, np.ones_like(one), axis=(1,))


def _register(first: Floats, second: Floats, scale: float) -> tuple[Floats, Floats]:
    count = len(first)
    motion = np.tile(np.array([scale, 0, scale, 0], np.float32), (count, 1))  # sy, ty, sx, tx
    down, across = (np.asarray(np.gradient(first, axis=axis), np.float32) for axis in (1, 2))
    for _ in range(_STEPS):
        rows, columns, mask = _warp(motion)
        warped, dy, dx = (_through(rows, image, columns) for image in (first, down, across))
        motion += _step(warped, dy, dx, second, mask)
        motion[:, ::2] = np.clip(motion[:, ::2], 1 - _LARGEST, 1 + _LARGEST)
        motion[:, 1::2] = np.clip(motion[:, 1::2], -_LARGEST * SIDE, _LARGEST * SIDE)
    rows, columns, mask = _warp(motion)
    warped = _through(rows, first, columns)
    grey = _correlation(warped, second, mask)
    inner = mask[:, 1:-1, 1:-1] * mask[:, 2:, 1:-1] * mask[:, :-2, 1:-1] * mask[:, 1:-1, 2:] * mask[:, 1:-1, :-2]
    slopes = [(image[:, 2:, 1:-1] - image[:, :-2, 1:-1], image[:, 1:-1, 2:] - image[:, 1:-1, :-2])
              for image in (warped, second)]  # fmt: skip
    both = [np.concatenate(pair, axis=1) for pair in slopes]
    return grey, _correlation(both[0], both[1], np.concatenate([inner, inner], axis=1))


def _through(rows: Floats, image: Floats, columns: Floats) -> Floats:
    warped: Floats = np.matmul(np.matmul(rows, image), columns.transpose(0, 2, 1))
    return warped


def _warp(motion: Floats) -> tuple[Floats, Floats, Floats]:
    """Linear interpolation as matrices (P, SIDE, SIDE) for each direction, and where it stays inside, 0 or 1."""
    middle = (SIDE - 1) / 2
    places = [motion[:, k, None] * _AXIS + motion[:, k + 1, None] + middle for k in (0, 2)]
    inside = [((place >= 0) & (place <= SIDE - 1)).astype(np.float32) for place in places]
    grid = np.arange(SIDE, dtype=np.float32)
    rows, columns = (np.maximum(0, 1 - np.abs(place[:, :, None] - grid)) for place in places)
    return rows, columns, inside[0][:, :, None] * inside[1][:, None, :]


def _step(warped: Floats, dy: Floats, dx: Floats, second: Floats, mask: Floats) -> Floats:
    """The change (P, 4) of sy, ty, sx, tx: least squares, together with gain and bias."""
    y, x = _AXIS[:, None], _AXIS[None, :]
    columns = np.stack([dy * y, dy, dx * x, dx, warped, np.ones_like(warped)], axis=1) * mask[:, None]
    flat = columns.reshape(len(warped), 6, -1)
    square = flat @ flat.transpose(0, 2, 1)
    scales = np.sqrt(np.maximum(np.diagonal(square, axis1=1, axis2=2), 1e-6))
    normal = square / (scales[:, :, None] * scales[:, None, :])
    normal += 1e-4 * np.eye(6, dtype=np.float32)
    target = (flat @ (second * mask).reshape(len(warped), -1, 1)) / scales[:, :, None]
    solved = np.linalg.solve(normal, target)[:, :, 0] / scales
    gain = np.where(np.abs(solved[:, 4]) < 0.2, 0.2, solved[:, 4])
    step: Floats = np.clip(solved[:, :4] / gain[:, None], -2, 2).astype(np.float32)
    return step


def _correlation(left: Floats, right: Floats, mask: Floats, axis: tuple[int, ...] = (1, 2)) -> Floats:
    """Pearson's, over where ``mask`` is 1; 0 without contrast, and where less than two thirds overlap."""
    size = mask.sum(axis=axis, keepdims=True)
    total = np.maximum(size, 1)
    one = (left - (left * mask).sum(axis=axis, keepdims=True) / total) * mask
    other = (right - (right * mask).sum(axis=axis, keepdims=True) / total) * mask
    power = (one**2).sum(axis=axis) * (other**2).sum(axis=axis)
    enough = (power > 1e-3) & (size.reshape(-1) > 0.6 * np.prod([mask.shape[k] for k in axis]))
    product: Floats = (one * other).sum(axis=axis)
    found: Floats = np.where(enough, product / np.sqrt(np.maximum(power, 1e-3)), 0).astype(np.float32)
    return found


def _smooth(pictures: Floats) -> Floats:
    """The mean of 3 × 3, so that noise and compression count less."""
    for axis in (1, 2):
        padded = np.pad(pictures, [(0, 0), *((1, 1) if k == axis else (0, 0) for k in (1, 2))], mode="edge")
        parts = [np.take(padded, range(k, k + SIDE), axis=axis) for k in range(3)]
        pictures = (parts[0] + parts[1] + parts[2]) / np.float32(3)
    return pictures
