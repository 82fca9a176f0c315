"""The scores that were compared, against SciPy and brute force: the choice rests on them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score

import unknown
from unknown_scores import SCORES, Training


@pytest.fixture(scope="module")
def training() -> Training:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 3000)
    centres = random.normal(size=(3, 6)) * 3
    rows = (centres[labels] + random.normal(size=(3000, 6)) * np.geomspace(1, 0.1, 6)).astype(np.float32)
    return Training(rows, (rows @ random.normal(size=(6, 3))).astype(np.float32), labels)


@pytest.fixture(scope="module")
def asked() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.normal(size=(9, 6)).astype(np.float32) * 4, random.normal(size=(9, 3)).astype(np.float32) * 5


def score(name: str, training: Training, asked: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return SCORES[name](training)(*asked)


def test_those_of_logits(training: Training, asked: tuple[np.ndarray, np.ndarray]) -> None:
    logits = asked[1].astype(np.float64)
    np.testing.assert_allclose(score("max-softmax", training, asked), -softmax(logits, axis=1).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(score("max-logit", training, asked), -logits.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(score("energy", training, asked), -logsumexp(logits, axis=1), rtol=1e-5)


@pytest.mark.parametrize("k", [5, 50])
def test_the_nearest(k: int, training: Training, asked: tuple[np.ndarray, np.ndarray]) -> None:
    bank, rows = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (training.embeddings, asked[0]))
    expected = np.sort(cdist(rows, bank), axis=1)[:, k - 1]
    np.testing.assert_allclose(score(f"knn, k = {k}", training, asked), expected, rtol=1e-4)


def test_mahalanobis(training: Training, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """With 3,000 pictures of 6 numbers there is little to shrink: close to the plain covariance."""
    rows, labels = training.embeddings.astype(np.float64), training.labels
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(3)])
    inverse = np.linalg.inv((rows - means[labels]).T @ (rows - means[labels]) / 2997)
    expected = np.array([min(mahalanobis(row, mean, inverse) ** 2 for mean in means) for row in asked[0]])
    found = score("mahalanobis", training, asked)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    everything = np.linalg.inv(np.cov(rows.T))
    background = [mahalanobis(row, rows.mean(axis=0), everything) ** 2 for row in asked[0]]
    relative = score("relative mahalanobis", training, asked)
    assert np.corrcoef(found - relative, background)[0, 1] > 0.99


def test_vim(training: Training, asked: tuple[np.ndarray, np.ndarray]) -> None:
    rows = training.embeddings.astype(np.float64)
    principal = np.linalg.svd(rows - rows.mean(axis=0))[2][:3]
    rest = null_space(principal)

    def length(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm((x - rows.mean(axis=0)) @ rest, axis=1)

    scale = training.logits.max(axis=1).mean() / length(rows).mean()
    expected = scale * length(asked[0]) - logsumexp(asked[1].astype(np.float64), axis=1)
    np.testing.assert_allclose(score("vim", training, asked), expected, rtol=1e-4)


@pytest.mark.parametrize("name", SCORES)
def test_all_give_one_number_for_each_picture(
    name: str, training: Training, asked: tuple[np.ndarray, np.ndarray]
) -> None:
    found = score(name, training, asked)
    assert found.shape == (9,)
    assert np.isfinite(found).all()
    alone = np.concatenate([score(name, training, (asked[0][k : k + 1], asked[1][k : k + 1])) for k in range(9)])
    np.testing.assert_allclose(alone, found, rtol=1e-4)


def test_quality_counts_pairs() -> None:
    inside, outside = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 5.0])
    found = unknown.quality(inside, outside)
    assert found["auroc"] == 6 / 8 == roc_auc_score([0, 0, 0, 0, 1, 1], [1, 2, 3, 4, 2.5, 5])
    assert found["fpr95"] == 0.5
