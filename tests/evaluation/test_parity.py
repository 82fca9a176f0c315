"""Parity: what passes, what fails, and which pictures are too close to call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight import evaluation
from resight.errors import DataError, UsageError

REFERENCE = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.40002, 0.39998, 0.2]])


def test_equal_forms_pass() -> None:
    found = evaluation.compare(REFERENCE, REFERENCE.copy())
    assert found == evaluation.Parity(n=3, top1_agreement=1.0, max_abs=0.0, mean_abs=0.0, decided=2, passed=True)


def test_an_undecided_picture_may_change_its_mind() -> None:
    other = REFERENCE.copy()
    other[2] = [0.39997, 0.40003, 0.2]
    found = evaluation.compare(REFERENCE, other)
    assert found.passed
    assert found.decided == 2
    assert found.max_abs == pytest.approx(5e-5)
    assert found.mean_abs == pytest.approx(1e-4 / 9)


def test_a_decided_picture_may_not() -> None:
    """Within the tolerance in every probability, and still another answer: two best 1.5e-4 apart."""
    reference, other = np.array([[0.50015, 0.5, 0.0]]), np.array([[0.50006, 0.50009, 0.0]])
    found = evaluation.compare(reference, other)
    assert found.max_abs < 1e-4
    assert found.top1_agreement == 0.0
    assert not found.passed


def test_a_large_difference_fails_even_with_the_same_answers() -> None:
    other = REFERENCE.copy()
    other[0] = [0.6998, 0.2002, 0.1]
    found = evaluation.compare(REFERENCE, other)
    assert (found.top1_agreement, found.passed) == (1.0, False)
    assert evaluation.compare(REFERENCE, other, tolerance=1e-3).passed


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_form_that_answers_no_number_fails(broken: float) -> None:
    other = REFERENCE.copy()
    other[1, 2] = broken
    found = evaluation.compare(REFERENCE, other)
    assert found == evaluation.Parity(3, 0.5, np.inf, np.inf, 2, passed=False)


def test_one_class_and_nothing_decided() -> None:
    assert evaluation.compare([[1.0]], [[1.0]]).decided == 1
    even = evaluation.compare([[0.5, 0.5]], [[0.49999, 0.50001]])
    assert (even.decided, even.top1_agreement, even.passed) == (0, 1.0, True)


@pytest.mark.parametrize(
    ("a", "b", "error", "words"),
    [
        (REFERENCE, REFERENCE[:2], UsageError, "shapes"),
        (REFERENCE[0], REFERENCE[0], UsageError, r"\(N, C\)"),
        (REFERENCE[:0], REFERENCE[:0], DataError, "no pictures"),
        (REFERENCE * 9, REFERENCE, DataError, "must be probabilities"),
        (REFERENCE * np.nan, REFERENCE, DataError, "must be probabilities"),
    ],
)
def test_wrong_input_is_refused(a: Any, b: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        evaluation.compare(a, b)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(UsageError, match="tolerance"):
        evaluation.compare(REFERENCE, REFERENCE, tolerance=-1.0)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 3e-4), st.integers(1, 6))
def test_parity_against_a_slow_one(seed: int, noise: float, c: int) -> None:
    random = np.random.default_rng(seed)
    a = evaluation.softmax(random.integers(0, 3, size=(12, c)) + random.normal(size=(12, c)) * 1e-4)
    b = np.clip(a + random.uniform(-noise, noise, size=a.shape), 0, 1)
    decided = agreed = 0
    for one, two in zip(a.tolist(), b.tolist(), strict=True):
        first, second = sorted([*one, -np.inf])[::-1][:2]
        if first - second > 1e-4:
            decided += 1
            agreed += one.index(max(one)) == two.index(max(two))
    found = evaluation.compare(a, b)
    assert (found.n, found.decided) == (12, decided)
    assert found.top1_agreement == (agreed / decided if decided else 1.0)
    assert found.passed == (agreed == decided and bool(np.abs(a - b).max() <= 1e-4))
