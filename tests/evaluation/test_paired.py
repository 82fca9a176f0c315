"""Two networks on the same pictures: scipy's exact test, a published example, a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resight import evaluation
from resight.errors import DataError, UsageError


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert evaluation.mcnemar(b, c) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_many_pictures() -> None:
    assert evaluation.mcnemar(5200, 4800) == pytest.approx(stats.binomtest(5200, 10000, 0.5).pvalue, rel=1e-9)
    with pytest.raises(UsageError, match="not counts"):
        evaluation.mcnemar(-1, 3)


@given(*[st.integers(0, 60)] * 4)
def test_a_difference_is_in_its_interval_and_turns_with_its_sides(a: int, b: int, c: int, d: int) -> None:
    if a + b + c + d == 0:
        return
    one, other = evaluation.paired_difference(a, b, c, d), evaluation.paired_difference(a, c, b, d)
    assert one.value == pytest.approx((b - c) / (a + b + c + d))
    assert -1 <= one.low <= one.value <= one.high <= 1
    assert one.low < one.high
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)


def test_the_interval_covers() -> None:
    random, held = np.random.default_rng(0), []
    for both, first, second, neither in ((0.8, 0.1, 0.05, 0.05), (0.96, 0.02, 0.01, 0.01)):
        for a, b, c, d in random.multinomial(150, (both, first, second, neither), 400).tolist():
            found = evaluation.paired_difference(a, b, c, d)
            held.append(found.low <= first - second <= found.high)
    assert np.mean(held) >= 0.94


def test_comparison_by_class() -> None:
    found = evaluation.compare_answers([0, 0, 1, 1, 0], [0, 1, 1, 0, 1], [0, 0, 1, 1, 1], ["a", "b", "c"])
    o = found.overall
    assert (o.n, o.both, o.only_first, o.only_second, o.neither) == (5, 2, 2, 1, 0)
    assert (o.first, o.second) == (evaluation.wilson(4, 5), evaluation.wilson(3, 5))
    assert [(pair.name, pair.n, pair.only_first, pair.only_second) for pair in found.per_class] == [
        ("a", 2, 1, 0),
        ("b", 3, 1, 1),
    ]
    assert found.to_dict()["overall"]["difference"]["method"] == "newcombe"


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="do not fit"):
        evaluation.compare_answers([0], [0, 1], [0, 1], ["a", "b"])
    with pytest.raises(DataError, match="no pictures"):
        evaluation.compare_answers([], [], [], ["a"])
    with pytest.raises(DataError, match="not within"):
        evaluation.compare_answers([0], [0], [3], ["a"])
    with pytest.raises(UsageError, match="counts of a pair"):
        evaluation.paired_difference(0, 0, 0, 0)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_his_stepwise_rule(values: list[float]) -> None:
    """Slowly, as he defines it: in ascending order, reject while p ≤ α / (tests that are left); stop at the first."""
    found = evaluation.holm(values)
    for alpha in (0.01, 0.05, 0.3, *values):
        rejected, left = set(), len(values)
        for place in sorted(range(len(values)), key=lambda k: values[k]):
            if values[place] * left > alpha:
                break
            rejected.add(place)
            left -= 1
        if alpha < 1:
            assert {k for k, p in enumerate(found) if p <= alpha} == rejected


def test_each_class_is_corrected_for_their_number() -> None:
    labels = [0] * 8 + [1] * 8
    found = evaluation.compare_answers(labels, [1] * 8 + [1] * 8, labels, ["a", "b"])
    assert [pair.p for pair in found.per_class] == [2 * evaluation.mcnemar(8, 0), 1.0]
