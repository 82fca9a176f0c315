"""AUROC and average precision against scikit-learn; their variances against resampling; intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from resight import evaluation
from resight.errors import DataError, UsageError


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.integers(1, 40))
def test_equal_to_scikit_learn_with_ties(n: int, seed: int, values: int) -> None:
    random = np.random.default_rng(seed)
    scores, own = random.integers(0, values, n) / values, random.random(n) < 0.4
    own[:2] = True, False
    found = evaluation.rank_class(scores, own)
    assert found.auroc == pytest.approx(oracle.roc_auc_score(own, scores), abs=1e-12)
    assert found.average_precision == pytest.approx(oracle.average_precision_score(own, scores), abs=1e-12)
    assert found.auroc_slope.sum() == pytest.approx(0, abs=1e-9)  # more of every picture changes nothing
    assert found.precision_slope.sum() == pytest.approx(0, abs=1e-9)


def test_slopes_are_the_derivatives_by_a_pictures_weight() -> None:
    """By scikit-learn, which takes weights."""
    random = np.random.default_rng(3)
    scores, own = random.integers(0, 12, 40) / 12, random.random(40) < 0.3
    found, step = evaluation.rank_class(scores, own), 1e-6
    for k in range(40):
        weights = np.ones(40)
        weights[k] += step
        for slope, value, metric in (
            (found.auroc_slope, found.auroc, oracle.roc_auc_score),
            (found.precision_slope, found.average_precision, oracle.average_precision_score),
        ):
            moved = metric(own, scores, sample_weight=weights)
            assert slope[k] == pytest.approx((moved - value) / step, abs=1e-4)


def test_the_variance_is_delongs() -> None:
    """Their equation 4, term by term."""
    random = np.random.default_rng(4)
    own = random.random(200) < 0.4
    scores = random.normal(size=200) + own
    higher, lower = scores[own], scores[~own]
    wins = (higher[:, None] > lower).astype(float) + 0.5 * (higher[:, None] == lower)
    delong = wins.mean(axis=1).var() / len(higher) + wins.mean(axis=0).var() / len(lower)
    slope = evaluation.rank_class(scores, own).auroc_slope
    assert float(slope @ slope) == pytest.approx(delong, rel=1e-12)


def test_intervals_cover() -> None:
    """Three classes, 90 pictures; truths from 60,000."""
    truth = evaluation.rank_classes(*_drawn(60000, 0))
    assert truth.macro_auroc is not None
    assert truth.macro_average_precision is not None
    held = []
    for seed in range(1, 201):
        found = evaluation.rank_classes(*_drawn(90, seed))
        pairs = [(found.macro_auroc, truth.macro_auroc), (found.macro_average_precision, truth.macro_average_precision)]
        pairs += [(found.auroc[0], truth.auroc[0]), (found.average_precision[0], truth.average_precision[0])]
        held.append([e is not None and t is not None and e.low <= t.value <= e.high for e, t in pairs])
    assert (np.mean(held, axis=0) >= 0.93).all(), np.mean(held, axis=0)


def _drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1.5
    return evaluation.softmax(logits), labels


def test_perfect_ranking_still_has_a_width() -> None:
    found = evaluation.rank_classes(np.eye(3)[[0, 0, 1, 1, 2, 2]], [0, 0, 1, 1, 2, 2])
    for estimate in (*found.auroc, *found.average_precision, found.macro_auroc, found.macro_average_precision):
        assert estimate is not None
        assert estimate.value == estimate.high == 1
        assert 0.2 < estimate.low < 0.9


def test_classes_that_cannot_be_ranked() -> None:
    found = evaluation.rank_classes(np.eye(3), [0, 0, 1])
    assert found.auroc[2] is None
    assert found.average_precision[2] is None
    alone = evaluation.rank_classes(np.eye(2), [0, 0])
    assert (alone.auroc, alone.macro_auroc, alone.macro_average_precision) == ((None, None), None, None)
    with pytest.raises(DataError, match="of the class and of others"):
        evaluation.rank_class([0.1, 0.2], np.array([True, True]))
    with pytest.raises(UsageError, match="do not fit"):
        evaluation.rank_class([0.1, 0.2], np.array([1, 0]))
