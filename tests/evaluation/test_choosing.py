"""Which pictures to label next: groups, typical ones, doubtful ones."""

from __future__ import annotations

import numpy as np
import pytest

from resight.evaluation.choosing import groups, margins, typical, typicality, unsure

RANDOM = np.random.default_rng(1)


def clouds(sizes: list[int], width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Rows about orthogonal directions, and which each belongs to."""
    own = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(width)[own] + 0.05 * RANDOM.normal(size=(len(own), width)), own


def test_groups_are_the_clouds() -> None:
    rows, own = clouds([30, 20, 10])
    found, means = groups(rows, 3, seed=0)
    assert len({(a, b) for a, b in zip(own.tolist(), found.tolist(), strict=True)}) == 3
    for group in range(3):
        assert means[group] == pytest.approx(rows[found == group].mean(0))


def test_groups_follow_weights_and_are_the_same_again() -> None:
    rows = np.array([[0.0], [1.0], [10.0], [11.0]])
    _, means = groups(rows, 1, 0, np.array([1.0, 1, 1, 97]))
    assert means[0, 0] == pytest.approx((0 + 1 + 10 + 97 * 11) / 100)
    some = RANDOM.normal(size=(50, 4))
    first, second = groups(some, 7, 3), groups(some, 7, 3)
    np.testing.assert_array_equal(first[0], second[0])
    assert len(set(first[0].tolist())) == 7


def test_copies_of_one_picture_make_no_error() -> None:
    found, _ = groups(np.ones((6, 3)), 4, 0)
    assert found.shape == (6,)
    assert len(set(typical(np.ones((6, 3)), 4, 0).positions.tolist())) == 4
    assert len(set(unsure(np.ones((6, 3)), np.full((6, 2), 0.5), 4, 0).positions.tolist())) == 4


def test_typicality_against_a_slow_reference() -> None:
    rows = RANDOM.normal(size=(30, 3))
    for k, found in enumerate(typicality(rows)):
        distances = sorted(float(np.linalg.norm(rows[k] - rows[j])) for j in range(30) if j != k)
        assert found == pytest.approx(1 / np.mean(distances[:20]))


def test_typical_ones_come_from_every_group_the_largest_first_and_not_from_its_edge() -> None:
    rows, own = clouds([40, 25, 15])
    rows[3] += 0.4 * np.eye(6)[4]  # at the edge of the largest
    found = typical(rows, 3, seed=0)
    assert own[found.positions].tolist() == [0, 1, 2]
    assert found.stands_for.tolist() == [40, 25, 15]
    assert 3 not in found.positions


def test_groups_that_have_a_label_come_last() -> None:
    rows, own = clouds([40, 25, 15])
    labelled = np.zeros(80, bool)
    labelled[0] = True
    found = typical(rows, 2, seed=0, labelled=labelled)
    assert own[found.positions].tolist() == [1, 2]


def test_doubtful_pictures_that_are_unlike_each_other() -> None:
    rows, own = clouds([30, 30, 30])
    probabilities = np.tile([0.98, 0.02], (90, 1))
    doubtful = [1, 2, 3, 4, 40, 41, 42, 43]  # of two clouds
    probabilities[doubtful] = [0.51, 0.49]
    found = unsure(rows, probabilities, 2, seed=0)
    assert set(own[found.positions].tolist()) == {0, 1}
    labelled = np.zeros(90, bool)
    labelled[:30] = True
    assert not set(unsure(rows, probabilities, 2, 0, labelled).positions.tolist()) & set(range(30))


def test_margins() -> None:
    assert margins(np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0]])) == pytest.approx([0.5, 0])
    assert margins(np.ones((2, 1))) == pytest.approx([1, 1])
