"""A paired difference in mAP, against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import DataError, UsageError
from resight.evaluation.multilabel import map_difference, mean_average_precision


def scores(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N, 3) that know something, the same with some noise, and targets."""
    random = np.random.default_rng(seed)
    targets = random.random((n, 3)) < 0.3
    first = 1.5 * targets + random.normal(size=(n, 3))
    return first, first + noise * random.normal(size=(n, 3)), targets


def test_it_is_the_difference_of_the_two() -> None:
    first, second, targets = scores(80, 0.5)
    found = map_difference(first, second, targets)
    one, other = mean_average_precision(first, targets), mean_average_precision(second, targets)
    assert one is not None
    assert other is not None
    assert found.value == pytest.approx(one - other, abs=1e-12)
    back = map_difference(second, first, targets)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_its_width_is_the_bootstraps() -> None:
    first, second, targets = scores(300, 0.4)
    found = map_difference(first, second, targets)
    random, drawn = np.random.default_rng(1), []
    for _ in range(400):
        rows = random.integers(0, 300, 300)
        drawn.append(map_difference(first[rows], second[rows], targets[rows]).value)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.2)
    assert found.method == "jackknife"


def test_equal_answers_differ_by_nothing() -> None:
    first, _, targets = scores(50, 0)
    found = map_difference(first, 3 * first + 1, targets)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    first, second, targets = scores(20, 0.1)
    with pytest.raises(DataError, match="no class"):
        map_difference(first, second, np.zeros_like(targets))
    with pytest.raises(UsageError, match="do not fit"):
        map_difference(first, second[:, :2], targets)
