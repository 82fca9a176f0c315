"""Temperature against grid search and closed forms; calibration error against a slow one and noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resight import evaluation
from resight.errors import DataError, UsageError
from resight.evaluation import calibration


def overconfident(n: int, c: int, factor: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Labels drawn from softmax(z), logits given as factor · z: the true temperature is ``factor``."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, c)) * 2
    labels = (logits + random.gumbel(size=(n, c))).argmax(axis=1)
    return logits * factor, labels


def doubtful_loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Cross-entropy against Platt's targets, written out: (N + 1)/(N + 2) on the label, the rest shared."""
    count, classes = logits.shape
    targets = np.full((count, classes), 1 / (count + 2) / (classes - 1))
    targets[np.arange(count), labels] = (count + 1) / (count + 2)
    return float(-(targets * evaluation.log_softmax(logits)).sum(axis=1).mean())


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 8.0])
def test_temperature_against_grid_search(factor: float) -> None:
    logits, labels = overconfident(400, 5, factor, seed=1)
    grid = np.geomspace(0.05, 20, 2001)
    best = grid[np.argmin([doubtful_loss(logits / t, labels) for t in grid])]
    found = evaluation.fit_temperature(logits, labels)
    assert found == pytest.approx(best, rel=0.004)
    assert found == pytest.approx(factor, rel=0.25)
    assert doubtful_loss(logits / found, labels) <= doubtful_loss(logits / best, labels) + 1e-12


@pytest.mark.parametrize(("margin", "right", "seen"), [(3.0, 70, 100), (0.5, 9, 10), (9.0, 999, 1000), (9.0, 50, 50)])
def test_temperature_in_closed_form(margin: float, right: int, seen: int) -> None:
    """Two classes, one margin: the best T makes confidence equal the accuracy, a little doubted."""
    logits = np.tile([margin, 0.0], (seen, 1))
    labels = np.array([0] * right + [1] * (seen - right))
    believed = (right * (seen + 1) + seen - right) / (seen + 2)  # pictures expected to be right
    expected = margin / math.log(believed / (seen - believed))
    assert evaluation.fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-9)


def test_temperature_where_there_is_no_best_one() -> None:
    logits = np.eye(3)[[0, 1, 2]] * 5
    assert 1.0 < evaluation.fit_temperature(logits, [0, 1, 2]) < 20  # three right pictures show little
    assert evaluation.fit_temperature(np.tile(logits, (500, 1)), [0, 1, 2] * 500) < 1.0  # 1,500 show more
    assert evaluation.fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0]) == 1.0  # the same at every temperature
    assert evaluation.fit_temperature([[2.0]], [0]) == 1.0  # one class
    assert evaluation.fit_temperature(logits, [1, 2, 0]) == 20.0  # always wrong
    barely = np.tile([1e-3, 0.0], (100, 1))
    assert evaluation.fit_temperature(barely, [0] * 99 + [1]) == 0.05  # the best one is below the bound


def test_temperature_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton's method doubles the digits with each step; halving the range would need about forty."""
    logits, labels = overconfident(200, 5, 3.0, seed=4)
    slope, calls = calibration._slope, []

    def counted(*args: Any) -> tuple[float, float]:
        calls.append(args)
        return slope(*args)

    monkeypatch.setattr(calibration, "_slope", counted)
    evaluation.fit_temperature(logits, labels)
    assert len(calls) <= 14


@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6, 1e50])
def test_temperature_of_extreme_logits(scale: float) -> None:
    logits, labels = overconfident(100, 4, 1.0, seed=2)
    expected = np.clip(evaluation.fit_temperature(logits, labels) * scale, 0.05, 20)
    assert evaluation.fit_temperature(logits * scale, labels) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-50, 50))
def test_temperature_is_a_least_loss_and_ignores_shifts(seed: int, factor: float, shift: float) -> None:
    logits, labels = overconfident(30, 3, factor, seed)
    found = evaluation.fit_temperature(logits, labels)
    assert 0.05 <= found <= 20
    assert evaluation.fit_temperature(logits + shift, labels) == pytest.approx(found, rel=1e-6)
    least = doubtful_loss(logits / found, labels)
    for other in np.clip([found * 0.98, found * 1.02, 1.0], 0.05, 20):
        assert least <= doubtful_loss(logits / other, labels) + 1e-12


def slow_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> float:
    """Guo et al. 2017, equations 2, 3 and 5, written out."""
    total = 0.0
    for b in range(bins):
        inside = [
            (max(row), float(np.argmax(row) == label))
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if b / bins < max(row) <= (b + 1) / bins
        ]
        total += abs(sum(confidence - correct for confidence, correct in inside))
    return total / len(labels)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_against_a_slow_one(bins: int) -> None:
    logits, labels = overconfident(500, 6, 3.0, seed=3)
    probabilities = evaluation.softmax(logits)
    found = evaluation.expected_calibration_error(probabilities, labels, bins)
    assert found == pytest.approx(slow_error(probabilities, labels, bins), abs=1e-12)
    gaps = evaluation.calibration_gaps(probabilities, labels, bins)
    assert np.abs(gaps.mean(axis=0)).sum() == pytest.approx(found, abs=1e-12)


def test_calibration_error_in_closed_form() -> None:
    eighty = np.tile([0.8, 0.2], (10, 1))
    assert evaluation.expected_calibration_error(eighty, [0] * 8 + [1] * 2) == pytest.approx(0.0, abs=1e-12)
    assert evaluation.expected_calibration_error(eighty, [0] * 5 + [1] * 5) == pytest.approx(0.3)
    certain = np.tile([1.0, 0.0], (4, 1))
    assert evaluation.expected_calibration_error(certain, [0] * 4) == 0.0
    assert evaluation.expected_calibration_error(certain, [1] * 4) == 1.0


def test_reliability_bins_are_closed_above() -> None:
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [0.76, 0.24], [1.0, 0.0]])
    found = evaluation.reliability(probabilities, [0, 1, 0, 0], bins=4)
    assert found.count.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.75, 0.88])
    np.testing.assert_allclose(found.accuracy, [np.nan, 1.0, 0.0, 1.0])


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(DataError, match="0 … 1"):
        evaluation.reliability([[3.0, -1.0]], [0])
    with pytest.raises(UsageError, match="one bin or more"):
        evaluation.reliability([[0.5, 0.5]], [0], bins=0)


def test_chance_errors_against_drawn_answers() -> None:
    random = np.random.default_rng(5)
    confidence = random.uniform(0.5, 1, size=300)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    drawn = [
        evaluation.expected_calibration_error(probabilities, (random.random(300) > confidence).astype(int))
        for _ in range(500)
    ]
    chance = evaluation.chance_errors(probabilities, seed=1, draws=4000)
    assert np.quantile(chance, [0.5, 0.975]) == pytest.approx(np.quantile(drawn, [0.5, 0.975]), rel=0.08)


@pytest.mark.parametrize("truth", [0.0, 0.03, 0.1])
def test_calibration_interval_covers(truth: float) -> None:
    """Percentiles of the plain bootstrap would cover 0 %, 2 % and 87 % here."""
    random, held = np.random.default_rng(6), []
    for repeat in range(200):
        confidence = random.uniform(0.5, 1, size=200)
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        labels = (random.random(200) > confidence - truth).astype(int)
        gaps = evaluation.calibration_gaps(probabilities, labels)
        drawn = np.abs(evaluation.resampled_means(gaps, seed=repeat, resamples=300)).sum(axis=1)
        chance = evaluation.chance_errors(probabilities, seed=repeat)
        error = evaluation.expected_calibration_error(probabilities, labels)
        estimate = evaluation.calibration_interval(error, drawn, chance)
        assert 0 <= estimate.low <= error <= estimate.high
        held.append(estimate.low <= truth <= estimate.high)
    assert 0.82 <= np.mean(held) <= 1.0
