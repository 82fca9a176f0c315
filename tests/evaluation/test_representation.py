"""Signs of a good description: closed forms, and slow references."""

from __future__ import annotations

import numpy as np
import pytest

from resight.evaluation.representation import alignment, effective_rank, knn_vote, spread, uniformity

RANDOM = np.random.default_rng(0)


def test_spread_is_one_around_the_sphere_and_nothing_where_all_are_one() -> None:
    axes = np.concatenate([np.eye(8), -np.eye(8)])
    assert spread(axes) == pytest.approx(1)
    assert spread(np.ones((5, 8)) * np.arange(1, 6)[:, None]) == pytest.approx(0, abs=1e-9)


def test_spread_of_numbers_that_lie_on_a_line() -> None:
    line = np.zeros((10, 4))
    line[:5, 0], line[5:, 0] = 3, -7  # ±1 in one of four directions
    assert spread(line) == pytest.approx(0.5)


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    assert effective_rank(np.outer(np.arange(1, 5), [1.0, 2, 3])) == pytest.approx(1)
    two = np.diag([3.0, 1.0])
    shares = np.array([0.75, 0.25])
    assert effective_rank(two) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())))
    assert effective_rank(np.zeros((3, 3))) == pytest.approx(1)


def test_alignment_is_the_squared_distance_of_unit_vectors() -> None:
    first = np.array([[2.0, 0], [0, 1]])
    assert alignment(first, first * 5) == pytest.approx(0)
    assert alignment(first, -first) == pytest.approx(4)
    assert alignment(first, first[:, ::-1]) == pytest.approx(2)


def test_uniformity_against_a_slow_reference() -> None:
    rows = RANDOM.normal(size=(12, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [np.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(12) for j in range(i)]
    assert uniformity(rows) == pytest.approx(np.log(np.mean(pairs)))
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)


def test_votes_against_a_slow_reference() -> None:
    bank, labels, queries = RANDOM.normal(size=(30, 4)), RANDOM.integers(0, 3, 30), RANDOM.normal(size=(7, 4))
    found = knn_vote(bank, labels, queries, 3, neighbours=5, temperature=0.1)
    for row, query in zip(found, queries, strict=True):
        cosines = [float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)) for other in bank]
        votes = np.zeros(3)
        for k in sorted(range(30), key=lambda k: -cosines[k])[:5]:
            votes[labels[k]] += np.exp(cosines[k] / 0.1)
        assert row / row.sum() == pytest.approx(votes / votes.sum())
    assert knn_vote(bank[:2], labels[:2], queries, 3).shape == (7, 3)  # fewer than neighbours
