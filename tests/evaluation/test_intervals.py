"""Intervals against closed forms, SciPy, slow bootstraps, and their promise: 95 % contain the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resight import evaluation
from resight.errors import DataError, UsageError
from resight.evaluation import intervals

SKEWED = np.array([[30, 2, 1], [4, 12, 0], [1, 1, 3]])


def test_the_quantile_is_the_normal_one() -> None:
    assert float(stats.norm.ppf(0.975)) == pytest.approx(evaluation.Z95, abs=1e-15)


@pytest.mark.parametrize(("hits", "seen"), [(0, 1), (1, 1), (0, 20), (20, 20), (1, 7), (9420, 10000), (5, 10)])
def test_wilson_against_scipy(hits: int, seen: int) -> None:
    ours = evaluation.wilson(hits, seen)
    theirs = stats.binomtest(hits, seen).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.value == hits / seen
    assert ours.method == "wilson"


def test_wilson_at_the_ends_in_closed_form() -> None:
    square = evaluation.Z95**2
    assert evaluation.wilson(0, 50).low == 0.0
    assert evaluation.wilson(0, 50).high == pytest.approx(square / (50 + square), abs=1e-15)
    assert evaluation.wilson(50, 50).low == pytest.approx(50 / (50 + square), abs=1e-15)
    assert evaluation.wilson(50, 50).high == 1.0


@pytest.mark.parametrize(("hits", "seen"), [(-1, 5), (6, 5), (0, 0), (float("nan"), 5)])
def test_what_is_no_proportion_is_refused(hits: float, seen: float) -> None:
    with pytest.raises(UsageError, match="not a proportion"):
        evaluation.wilson(hits, seen)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_its_value_and_mirrors(pair: tuple[int, int]) -> None:
    hits, seen = pair
    right, wrong = evaluation.wilson(hits, seen), evaluation.wilson(seen - hits, seen)
    assert 0 <= right.low <= right.value <= right.high <= 1
    assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1 - wrong.low), abs=1e-12)
    assert right.low < right.high


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("n", [20, 200])
def test_wilson_covers(truth: float, n: int) -> None:
    """Exact, over all outcomes. The textbook (Wald) one covers 33 % at n = 20, p = 0.98."""
    held = [e.low <= truth <= e.high for e in (evaluation.wilson(hits, n) for hits in range(n + 1))]
    coverage = float(stats.binom.pmf(np.arange(n + 1), n, truth) @ np.array(held, dtype=float))
    assert 0.92 <= coverage <= 0.99


def test_f1_in_closed_form() -> None:
    estimate = evaluation.f1_interval(right=8, answered=10, support=12)
    share = stats.binomtest(8, 14).proportion_ci(method="wilson")
    assert estimate.value == pytest.approx(2 * 8 / (10 + 12))
    assert estimate.low == pytest.approx(2 / (1 + 1 / share.low))
    assert estimate.high == pytest.approx(2 / (1 + 1 / share.high))
    assert evaluation.f1_interval(5, 5, 5).low < 0.8 < evaluation.f1_interval(5, 5, 5).high == 1.0
    with pytest.raises(UsageError):
        evaluation.f1_interval(0, 0, 0)


def test_f1_covers() -> None:
    random = np.random.default_rng(0)
    chances = np.array([0.15, 0.03, 0.05, 0.77])  # right, missed, wrongly taken, neither
    truth = 2 * chances[0] / (2 * chances[0] + chances[1] + chances[2])
    held = []
    for right, missed, taken, _ in random.multinomial(100, chances, size=2000):
        estimate = evaluation.f1_interval(int(right), int(right + taken), int(right + missed))
        held.append(estimate.low <= truth <= estimate.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_macro_bootstrap_against_a_slow_one() -> None:
    """Pictures drawn one by one, metrics by `macro`: the same distribution, nearly the same interval."""
    pairs = np.repeat(np.argwhere(SKEWED >= 0), SKEWED.ravel(), axis=0)
    random = np.random.default_rng(1)
    slow = []
    for _ in range(1500):
        true, answered = pairs[random.integers(0, len(pairs), len(pairs))].T
        found = evaluation.macro(evaluation.confusion(answered, true, 3))
        slow.append([found.precision, found.recall, found.f1])
    fast = evaluation.macro_intervals(SKEWED, seed=2, resamples=4000)
    for name, drawn in zip(("macro_precision", "macro_recall", "macro_f1"), np.array(slow).T, strict=True):
        sizes = SKEWED.sum(axis=1)
        expected = evaluation.resampled(fast[name].value, drawn, 9 / (1 / sizes).sum())
        assert (fast[name].low, fast[name].high) == pytest.approx((expected.low, expected.high), abs=0.01)
        assert fast[name].method == "wilson-effective"


def test_macro_covers() -> None:
    chances = np.array([0.5, 0.3, 0.2])[:, None] * np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    right = np.diagonal(chances)
    truth = {
        "macro_precision": np.mean(right / chances.sum(axis=0)),
        "macro_recall": np.mean(right / chances.sum(axis=1)),
        "macro_f1": np.mean(2 * right / (chances.sum(axis=0) + chances.sum(axis=1))),
    }
    random = np.random.default_rng(3)
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for repeat in range(300):
        matrix = random.multinomial(200, chances.ravel()).reshape(3, 3)
        for name, estimate in evaluation.macro_intervals(matrix, seed=repeat, resamples=300).items():
            held[name].append(bool(estimate.low <= truth[name] <= estimate.high))
    for name, each in held.items():
        assert 0.90 <= np.mean(each) <= 0.99, name


def test_macro_without_mistakes_is_still_unsure() -> None:
    balanced = evaluation.macro_intervals(np.diag([10, 10]))
    expected = evaluation.wilson(20, 20)
    assert balanced["macro_recall"].low == pytest.approx(expected.low)
    assert balanced["macro_recall"].high == 1.0
    assert balanced["macro_recall"].method == "wilson"
    lopsided = evaluation.macro_intervals(np.diag([1, 1000, 0]))
    assert lopsided["macro_f1"].low == pytest.approx(evaluation.wilson(4 / 1.001, 4 / 1.001).low)


def test_macro_without_a_right_answer_is_still_unsure() -> None:
    estimate = evaluation.macro_intervals([[0, 10], [10, 0]])["macro_precision"]
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(evaluation.wilson(0, 20).high)


def test_resampled_means_against_the_theory() -> None:
    values = np.random.default_rng(0).normal(size=(400, 2)) * [1.0, 3.0] + [5.0, -2.0]
    drawn = evaluation.resampled_means(values, seed=1, resamples=4000)
    assert drawn.shape == (4000, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), values.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(drawn.std(axis=0), values.std(axis=0) / 20, rtol=0.05)
    theirs = stats.bootstrap((values[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=5)
    ours = np.quantile(drawn[:, 0], (0.025, 0.975))
    assert tuple(ours) == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_mean_loss_covers() -> None:
    random, held = np.random.default_rng(4), []
    for repeat in range(300):
        losses = random.gamma(shape=1.0, scale=0.3, size=(200, 1))
        drawn = evaluation.resampled_means(np.column_stack([losses, losses**2]), seed=repeat, resamples=300)
        estimate = evaluation.studentized(losses[:, 0], drawn[:, 0], drawn[:, 1])
        held.append(estimate.low <= 0.3 <= estimate.high)
    assert 0.90 <= np.mean(held) <= 0.98


def test_seeds_decide_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    whole = evaluation.resampled_means(values, seed=3), evaluation.macro_intervals(SKEWED, seed=3)
    monkeypatch.setattr(intervals, "BLOCK", 170)
    np.testing.assert_allclose(evaluation.resampled_means(values, seed=3), whole[0], atol=1e-12)
    assert evaluation.macro_intervals(SKEWED, seed=3) == whole[1]
    assert evaluation.macro_intervals(SKEWED, seed=4) != whole[1]
    assert not np.allclose(evaluation.resampled_means(values, seed=4), whole[0])


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to resample"):
        evaluation.resampled_means(np.zeros((0, 2)))
    with pytest.raises(UsageError, match=r"\(N, D\)"):
        evaluation.resampled_means(np.zeros(3))
    with pytest.raises(DataError, match="no pictures"):
        evaluation.macro_intervals(np.zeros((2, 2), dtype=int))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6), st.floats(0.1, 6))
def test_macro_intervals_contain_their_values(c: int, seed: int, mean: float) -> None:
    matrix = np.random.default_rng(seed).poisson(mean, size=(c, c))
    matrix[0, 0] += 1
    found = evaluation.macro(matrix)
    estimates = evaluation.macro_intervals(matrix, resamples=50)
    values = [estimates[f"macro_{name}"].value for name in ("precision", "recall", "f1")]
    assert values == pytest.approx([found.precision, found.recall, found.f1], abs=1e-12)
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in estimates.values())
