"""Which pairs of pictures may be near-duplicates, without comparing all with all.

Multi-index hashing (Norouzi, Punjani and Fleet 2012): two hashes of 64 bits that differ in at most 7 agree in one of
four bands of 16 bits up to a single bit. So each hash is looked up in four tables, in each under its own band and the
16 that differ from it by one bit. Whole pictures are in the tables; whole pictures and windows are looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.doctor.hashes import WINDOWS, Hashes, distance

RADIUS = 12
"""Bits that may differ: all pairs within 7 are found, those from 8 to RADIUS where a band agrees up to one bit."""

BUCKET = 64
"""Most neighbours looked at in one place of a table, the nearest in order: thousands of pictures that are nearly the
same (frames of a still scene) would else be compared all with all. Union keeps them together."""

_BANDS, _BITS = 4, 16
_QUERIES = 1 << 16  # lookups at a time: bounds the memory
_FLIPS = np.array([0, *(1 << bit for bit in range(_BITS))], np.uint64)


def candidates(found: Hashes) -> NDArray[np.int64]:
    """(N, WINDOWS) hashes → (P, 2) pairs of positions i < j, each once, sorted."""
    count = len(found)
    keys = [np.empty(0, np.int64)]
    for band in range(_BANDS):
        order, table = _table(found[:, 0], band)
        for window in range(WINDOWS):
            for start in range(0, count, _QUERIES // len(_FLIPS)):
                rows = np.arange(start, min(start + _QUERIES // len(_FLIPS), count))
                for left, place in _look_up(_turn(found[rows, window], band), table):
                    one, other = rows[left], order[place]
                    apart = distance(found[one, window], found[other, 0])
                    near = (apart <= RADIUS) & (one != other)
                    one, other = _nearest(one[near], other[near], apart[near])
                    low, high = np.minimum(one, other), np.maximum(one, other)
                    keys.append(np.unique(low * count + high))
        keys = [np.unique(np.concatenate(keys))]
    pairs = keys[0]
    return np.stack([pairs // max(count, 1), pairs % max(count, 1)], axis=1)


def _nearest(one: NDArray[np.int64], other: NDArray[np.int64], apart: NDArray[Any]) -> tuple[NDArray[np.int64], ...]:
    """Of each picture in ``one`` the ``BUCKET`` nearest of its partners: memory grows with pictures, not with pairs."""
    order = np.lexsort((other, apart, one))
    one, other = one[order], other[order]
    first = np.searchsorted(one, one)  # where the partners of each begin
    kept = np.arange(len(one)) - first < BUCKET
    return one[kept], other[kept]


def _turn(values: Hashes, band: int) -> Hashes:
    """The bits rotated so that the band comes first."""
    shift = np.uint64(_BITS * band)
    return values if band == 0 else (values << shift) | (values >> (np.uint64(64) - shift))


def _table(whole: Hashes, band: int) -> tuple[NDArray[np.int64], Hashes]:
    turned = _turn(whole, band)
    order = np.argsort(turned, kind="stable")
    return order, turned[order]


def _look_up(queries: Hashes, table: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of queries and of entries in ``table`` that agree in the first band up to one bit."""
    rest = np.uint64(64 - _BITS)
    probes = (queries[:, None] ^ (_FLIPS << rest)).ravel()
    first = probes >> rest << rest
    low = np.searchsorted(table, first)
    high = np.searchsorted(table, first | np.uint64((1 << (64 - _BITS)) - 1), side="right")
    full = high - low > BUCKET
    if full.any():
        middle = np.searchsorted(table, probes[full])
        low[full] = np.clip(middle - BUCKET // 2, low[full], high[full] - BUCKET)
        high[full] = low[full] + BUCKET
    sizes = high - low
    owner = np.repeat(np.arange(len(probes)), sizes)
    inner = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    yield owner // len(_FLIPS), np.repeat(low, sizes) + inner
