"""Metrics over folds against scipy, closed forms and a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation import CrossEvaluation, corrected_t, evaluate, over_folds
from resight.evaluation.folds import t_quantile, t_within


@pytest.mark.parametrize("freedom", [*range(1, 12), 29, 30, 199])
def test_student_is_scipys(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for t in (0.0, 0.3, 1.0, 2.5, 40.0):
        assert t_within(t, freedom) == pytest.approx(1 - 2 * stats.t.sf(t, freedom), abs=1e-13)
    for share in (0.01, 0.5, 0.95, 0.999):
        assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf((1 + share) / 2, freedom), rel=1e-9)


def test_student_of_one_and_two_degrees_is_known_in_closed_form() -> None:
    assert t_within(1, 1) == pytest.approx(0.5)  # Cauchy: 2/π arctan t
    assert t_within(3, 2) == pytest.approx(3 / math.sqrt(11))  # t / √(2 + t²)


def test_the_corrected_interval_is_nadeau_and_bengios() -> None:
    values = [0.8, 0.9, 0.7, 0.85, 0.75]
    found = corrected_t(values, 1 / 4)
    half = 2.7764451051977987 * math.sqrt((1 / 5 + 1 / 4) * 0.00625)  # variance with k − 1
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - half, min(1, 0.8 + half)))
    assert corrected_t([1.0, 1.0], 1).high == 1
    wide = corrected_t([0.1, 0.9, 0.2], 0.5)
    assert (wide.low, wide.high) == (0, 1)
    assert corrected_t([0.1, 0.9, 0.2], 0.5, most=math.inf).high > 1


@pytest.mark.parametrize(("values", "ratio"), [([0.5], 0.25), ([], 0.25), ([0.5, 0.6], 0.0)])
def test_what_makes_no_interval_is_refused(values: list[float], ratio: float) -> None:
    with pytest.raises(UsageError):
        corrected_t(values, ratio)


@pytest.mark.parametrize("validated", [0.0, 0.1])
def test_the_plain_interval_misses_and_the_corrected_one_does_not(validated: float) -> None:
    """Folds that share an error, as overlapping training parts do: correlation r / (1 + r), r tested / learned from, as
    the correction assumes.
    """
    random, k, held = np.random.default_rng(0), 5, {"plain": 0, "corrected": 0}
    ratio = 1 / ((1 - validated) * (k - 1))
    alike = ratio / (1 + ratio)
    for _ in range(2000):
        shared = random.normal()
        values = 0.5 + 0.02 * (math.sqrt(alike) * shared + math.sqrt(1 - alike) * random.normal(size=k))
        found = corrected_t(values.tolist(), ratio)
        plain = t_quantile(0.95, k - 1) * values.std(ddof=1) / math.sqrt(k)
        held["corrected"] += found.low <= 0.5 <= found.high
        held["plain"] += abs(values.mean() - 0.5) <= plain
    assert 0.93 <= held["corrected"] / 2000 <= 0.97
    assert held["plain"] / 2000 < 0.88


def answers(seed: int, n: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    return logits, labels


def test_each_metric_over_folds_and_as_text() -> None:
    names = ("a", "b", "\u202ec")
    folds = [answers(seed, 40 + seed) for seed in range(4)]
    each = [evaluate(logits, labels, names) for logits, labels in folds]
    spreads = over_folds(each, 1 / 3)
    assert list(spreads) == list(each[0].metrics)
    for name, spread in spreads.items():
        values = [found.metrics[name].value for found in each]
        assert spread.values == tuple(values)
        assert spread.mean.value == pytest.approx(sum(values) / 4)
        assert spread.deviation == pytest.approx(np.std(values, ddof=1))
        assert spread.mean.low <= spread.mean.value <= spread.mean.high
    pooled = evaluate(np.concatenate([f[0] for f in folds]), np.concatenate([f[1] for f in folds]), names)
    text = CrossEvaluation(pooled, spreads).to_text()
    assert "4 folds" in text
    assert "\u202e" not in text
    assert f"{100 * spreads['accuracy'].mean.value:.1f}" in text
    assert f"{spreads['log_loss'].deviation:.3f}" in text


def test_a_metric_that_one_fold_lacks_is_left_out() -> None:
    one_class = evaluate(np.zeros((4, 3)), np.zeros(4, np.int64), ("a", "b", "c"))
    assert "auroc" not in one_class.metrics
    assert "auroc" not in over_folds([one_class, evaluate(*answers(0, 30), ("a", "b", "c"))], 1.0)
