"""Known answers for Philox, and the properties that make batches independent of who computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from resight.training.loader import shuffled
from resight.training.randomness import generator, philox, torch_seed, uniforms

# Random123's kat_vectors for philox4x32 with ten rounds: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_known_answers(counter: str, key: str, result: str) -> None:
    first, second = words(key)
    assert philox(np.array(words(counter), np.uint64), (first, second)).tolist() == words(result)


def test_philox_works_on_many_counters_at_once() -> None:
    counters = np.array([words(counter) for counter, _, _ in KNOWN], np.uint64)
    for row, (counter, _, _) in zip(philox(counters, (7, 8)), KNOWN, strict=True):
        assert row.tolist() == philox(np.array(words(counter), np.uint64), (7, 8)).tolist()


def test_uniforms_depend_on_seed_epoch_and_index_alone() -> None:
    indices = np.array([5, 0, 2**33, 7, 5])
    together = uniforms(3, 1, indices, 10)
    assert together.shape == (5, 10)
    for row, index in zip(together, indices, strict=True):
        np.testing.assert_array_equal(uniforms(3, 1, np.array([index]), 10)[0], row)
    np.testing.assert_array_equal(uniforms(3, 1, indices, 3), together[:, :3])  # a longer draw starts the same
    for other in (uniforms(4, 1, indices, 10), uniforms(3, 2, indices, 10), uniforms(3, 1, indices + 1, 10)):
        assert (other != together).all()


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    u = uniforms(0, 0, np.arange(20_000), 8)
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:  # a fixed seed: the outcome never changes, the bound only has to be believable
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(u.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    between = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(between) < 5 / np.sqrt(20_000)


def test_orders_are_permutations_that_differ_by_epoch_and_seed() -> None:
    orders = [shuffled(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(100))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(shuffled(0, 0, 100), orders[0])


def test_streams_of_generators_are_their_own() -> None:
    draws = {generator(*stream).random() for stream in [(0, 0, 1), (0, 1, 1), (1, 0, 1), (0, 0, 2), (0, 1, 2)]}
    assert len(draws) == 5


def test_torch_draws_differ_for_every_part_of_the_seed() -> None:
    """PyTorch's CPU generator takes 32 bits; a seed above them would be lost."""
    draws = set()
    for seed in (0, 1, 2**32 - 1):
        for step in (0, 1, 1000):
            for rank in (0, 1):
                torch.manual_seed(torch_seed(seed, step, rank))
                draws.add(torch.rand(1).item())
    assert len(draws) == 18
