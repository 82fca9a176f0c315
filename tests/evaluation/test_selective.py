"""The risk–coverage curve against a slow one and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from resight import evaluation
from resight.errors import UsageError


def drawn(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    logits = random.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1
    return evaluation.softmax(logits), labels


def test_each_point_is_what_it_says() -> None:
    chances, labels = drawn()
    curve = evaluation.risk_coverage(chances, labels)
    wrong = chances.argmax(axis=1) != labels
    for threshold, coverage, risk in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
        kept = chances.max(axis=1) >= threshold
        assert coverage == pytest.approx(kept.mean(), abs=1e-12)
        assert risk == pytest.approx(wrong[kept].mean(), abs=1e-12)
    assert evaluation.aurc(chances, labels).value == pytest.approx(curve.area, abs=1e-12)


def test_equal_confidences_are_answered_together() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]])
    curve = evaluation.risk_coverage(chances, [0, 1, 0, 0])
    np.testing.assert_allclose(curve.coverage, [0.25, 1])
    np.testing.assert_allclose(curve.risk, [0, 0.25])
    assert curve.area == pytest.approx(0.75 * 0.25)
    assert curve.at_accuracy(0.75) == (1.0, 0.6)
    assert curve.at_accuracy(0.95) == (0.25, 0.9)
    assert evaluation.risk_coverage([[0.9, 0.1]], [1]).at_accuracy(0.5) == (0.0, 1.0)


def test_the_area_has_an_interval_even_without_mistakes() -> None:
    chances = np.tile([0.9, 0.1], (30, 1))
    found = evaluation.aurc(chances, np.zeros(30, np.int64))
    assert found.low == found.value == 0
    assert 0.05 < found.high < 0.2
    with pytest.raises(UsageError, match="resample"):
        evaluation.aurc(chances, np.zeros(30, np.int64), resamples=0)


def test_the_interval_covers() -> None:
    truth = evaluation.risk_coverage(*drawn(60000, 1)).area
    found = [evaluation.aurc(*drawn(100, seed), seed=seed, resamples=200) for seed in range(2, 202)]
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.93
