"""Perceptual hashes of a picture and of windows of it, in NumPy.

The hash is the one of pHash (Zauner 2010, section 3.2.1): of a grey picture squeezed to 32 × 32, the lowest 8 × 8
frequencies of the discrete cosine transform without the first row and column, each one bit: above their median or
not. Brightness, contrast, size and compression hardly change it. A picture that was cropped hashes as the window of
the original does, so windows are hashed as well.

Cutting a window, squeezing it and the transform are all linear and separable: three matrices in one, 8 × 64 for each
direction of each window. Hashing thousands of pictures is then two multiplications.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Pictures are squeezed to SIDE × SIDE before anything is hashed or compared."""

_SPANS = ((0.0, 1.0), (0.025, 0.95), (0.05, 0.9), (0.0, 0.95), (0.05, 0.95))  # start, length, as shares of the side
_WINDOWS = ((0, 0), (1, 1), (2, 2), (3, 3), (3, 4), (4, 3), (4, 4))  # spans down and across: whole, centres, corners
WINDOWS = len(_WINDOWS)

Hashes = NDArray[np.uint64]


def hashes(pictures: NDArray[np.uint8]) -> Hashes:
    """Grey uint8 (N, SIDE, SIDE) → uint64 (N, WINDOWS); the first is the whole picture."""
    spread = _projection() @ pictures.astype(np.float32) @ _projection().T  # (N, 8 spans, 8 spans)
    found = np.empty((len(pictures), WINDOWS), np.uint64)
    for number, (down, across) in enumerate(_WINDOWS):
        block = spread[:, 8 * down : 8 * down + 8, 8 * across : 8 * across + 8].reshape(len(pictures), 64)
        bits = block[:, _ORDER] > np.median(block, axis=1, keepdims=True)
        found[:, number] = np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8")[:, 0]
    return found


def distance(left: Hashes, right: Hashes) -> NDArray[np.uint8]:
    """How many of the 64 bits differ."""
    bits = left ^ right
    bits = bits - ((bits >> _ONE) & _PAIRS)
    bits = (bits & _QUADS) + ((bits >> np.uint64(2)) & _QUADS)
    bits = (bits + (bits >> np.uint64(4))) & _BYTES
    counts: NDArray[np.uint8] = ((bits * _SUM) >> np.uint64(56)).astype(np.uint8)
    return counts


# Counting bits in parallel (Warren, Hacker's Delight, section 5-1): NumPy 1.26 has no function for it.
_ONE, _PAIRS, _QUADS = np.uint64(1), np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)

# Neighbouring frequencies go to different bands of 16 bits, so that all bands tell as much.
_ORDER = np.argsort(np.add.outer(np.arange(8), np.arange(8)).ravel() * 64 + np.arange(64)).reshape(16, 4).T.ravel()


@cache
def _projection() -> NDArray[np.float32]:
    """(8 spans, SIDE): each span's frequencies 1 to 8 of 32 samples."""
    place, frequency = np.arange(32) + 0.5, np.arange(1, 9)
    cosine = np.cos(np.pi / 32 * np.outer(frequency, place))
    return np.concatenate([cosine @ _squeeze(start, length) for start, length in _SPANS]).astype(np.float32)


def _squeeze(start: float, length: float) -> NDArray[np.float64]:
    """(32, SIDE): means over 32 equal parts of a span, counting pixels by how much of them is inside."""
    edges = SIDE * (start + length * np.arange(33) / 32)
    low = np.maximum(edges[:-1, None], np.arange(SIDE))
    high = np.minimum(edges[1:, None], np.arange(1, SIDE + 1))
    inside = np.maximum(high - low, 0)
    shares: NDArray[np.float64] = inside / inside.sum(axis=1, keepdims=True)
    return shares
