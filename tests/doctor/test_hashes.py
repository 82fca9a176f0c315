"""Hashes against a slow reference, and the search against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.doctor.pictures import grey, scene

from resight.doctor import search
from resight.doctor.hashes import _ORDER, _WINDOWS, SIDE, WINDOWS, distance, hashes


def reference(picture: np.ndarray) -> int:
    """Zauner's steps for the whole picture, with scipy's transform."""
    fft = pytest.importorskip("scipy.fft")
    small = picture.astype(np.float64).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    low = fft.dctn(small, type=2)[1:9, 1:9].ravel()
    bits = (low > np.median(low))[_ORDER]
    return int("".join("1" if bit else "0" for bit in bits), 2)


def test_the_whole_picture_hashes_as_scipy_says() -> None:
    pictures = np.stack([grey(scene(seed)) for seed in range(20)])
    found = hashes(pictures)
    assert found.shape == (20, WINDOWS)
    assert found[:, 0].tolist() == [reference(picture) for picture in pictures]


def test_each_bit_is_used_once() -> None:
    assert sorted(_ORDER.tolist()) == list(range(64))
    assert _WINDOWS[0] == (0, 0)


def test_a_window_hashes_as_the_crop_does() -> None:
    """The window of 0.9 in the middle against cutting it out of a large picture and squeezing that."""
    for seed in range(10):
        large = scene(seed, 800, 800)
        crop = grey(large.crop((40, 40, 760, 760)))
        near = distance(hashes(grey(large)[None])[:, 2], hashes(crop[None])[:, 0])
        far = distance(hashes(grey(scene(seed + 100))[None])[:, 2], hashes(crop[None])[:, 0])
        assert near[0] <= 4
        assert far[0] > 12


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_distance_counts_bits(values: list[int]) -> None:
    left = np.array(values, np.uint64)
    right = left[::-1].copy()
    expected = [bin(a ^ b).count("1") for a, b in zip(values, reversed(values), strict=True)]
    assert distance(left, right).tolist() == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_every_pair_within_seven_bits_is_a_candidate(seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    whole = random.integers(0, 2**64, (60, WINDOWS), dtype=np.uint64)
    whole[7, 3] = whole[41, 0] ^ np.bitwise_or.reduce(np.uint64(1) << random.permutation(64)[:bits].astype(np.uint64))
    pairs = {tuple(pair) for pair in search.candidates(whole).tolist()}
    assert (7, 41) in pairs
    assert all(i < j for i, j in pairs)


def test_candidates_equal_a_search_of_all_pairs() -> None:
    """Nothing beyond the radius, and all within 7; from clusters of similar hashes."""
    random = np.random.default_rng(3)
    centres = random.integers(0, 2**64, 30, dtype=np.uint64)
    whole = np.repeat(centres, 5)[:, None].repeat(WINDOWS, axis=1)
    for _ in range(6):
        whole ^= np.uint64(1) << random.integers(0, 64, whole.shape, dtype=np.uint64)
    least = np.full((150, 150), 64)
    for window in range(WINDOWS):
        for i in range(150):
            least[i] = np.minimum(least[i], distance(np.full(150, whole[i, window]), whole[:, 0]))
    least = np.minimum(least, least.T)
    upper = np.triu(np.ones_like(least), 1).astype(bool)
    found = {tuple(pair) for pair in search.candidates(whole).tolist()}
    assert found >= set(zip(*np.nonzero((least <= 7) & upper), strict=True))
    assert found <= set(zip(*np.nonzero((least <= search.RADIUS) & upper), strict=True))


def test_thousands_of_equal_hashes_are_not_compared_all_with_all() -> None:
    """And all are still held together, through a few."""
    whole = np.zeros((1000, WINDOWS), np.uint64)
    pairs = search.candidates(whole)
    assert len(pairs) <= 1000 * search.BUCKET
    assert {(0, k) for k in range(1, 1000)} <= {tuple(pair) for pair in pairs.tolist()}


def test_nothing_and_one_picture_have_no_pairs() -> None:
    assert search.candidates(np.zeros((0, WINDOWS), np.uint64)).shape == (0, 2)
    assert search.candidates(np.zeros((1, WINDOWS), np.uint64)).shape == (0, 2)
    assert SIDE == 64
