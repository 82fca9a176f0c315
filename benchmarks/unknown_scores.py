"""The scores that ``unknown.py`` compares, as plain functions. Higher is more unlike the training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resight.inference.unknown import Reference, Scorer, unit, whitening
from resight.inference.within import class_means

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Training:
    """embeddings (N, D), logits (N, K), labels (N,) of training pictures."""

    embeddings: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


def logsumexp(logits: np.ndarray) -> np.ndarray:
    most = logits.max(axis=1, keepdims=True)
    return most[:, 0] + np.log(np.exp(logits - most).sum(axis=1))


def max_softmax(training: Training) -> Score:
    """Hendrycks and Gimpel 2017."""
    return lambda embedding, logits: -np.exp(logits.max(axis=1) - logsumexp(logits))


def max_logit(training: Training) -> Score:
    """Hendrycks et al. 2022."""
    return lambda embedding, logits: -logits.max(axis=1)


def energy(training: Training) -> Score:
    """Liu et al. 2020, with T = 1."""
    return lambda embedding, logits: -logsumexp(logits)


def nearest(k: int) -> Callable[[Training], Score]:
    """Sun et al. 2022: distance to the k-th nearest, embeddings of length 1."""

    def fit(training: Training) -> Score:
        rows = unit(training.embeddings)
        scorer = Scorer(np.zeros(rows.shape[1], np.float32), np.eye(rows.shape[1], dtype=np.float32), rows, k)
        return lambda embedding, logits: scorer(embedding)

    return fit


def whitened(k: int) -> Callable[[Training], Score]:
    """The same in the metric of the covariance within classes."""

    def fit(training: Training) -> Score:
        rows, labels = training.embeddings, training.labels
        scorer = Reference.fit(rows, labels, labels, [""] * len(labels)).scorer(k)
        return lambda embedding, logits: scorer(embedding)

    return fit


def mahalanobis(*, relative: bool, length_1: bool) -> Callable[[Training], Score]:
    """Lee et al. 2018: squared distance to the nearest class mean, shared covariance, shrunk; relative: minus that to
    the mean of all in the covariance of all (Ren et al. 2021). length_1: embeddings are scaled to length 1 first.
    """

    def fit(training: Training) -> Score:
        prepare = unit if length_1 else np.asarray
        rows = prepare(training.embeddings).astype(np.float64)
        matrix = whitening(rows, training.labels).astype(np.float64)
        means = class_means(rows, training.labels) @ matrix
        everything, centre = whitening(rows, np.zeros_like(training.labels)).astype(np.float64), rows.mean(axis=0)

        def score(embedding: np.ndarray, logits: np.ndarray) -> np.ndarray:
            found = prepare(embedding).astype(np.float64)
            white = found @ matrix
            squares = np.stack([((white - mean) ** 2).sum(axis=1) for mean in means], axis=1).min(axis=1)
            return squares - (((found - centre) @ everything) ** 2).sum(axis=1) * relative

        return score

    return fit


def virtual_logit(training: Training) -> Score:
    """ViM, Wang et al. 2022: length of what lies outside of the principal half of the directions, and energy."""
    rows = training.embeddings.astype(np.float64)
    centre = rows.mean(axis=0)
    vectors = np.linalg.eigh(np.cov((rows - centre).T))[1][:, : rows.shape[1] // 2]  # the lesser half

    def rest(embedding: np.ndarray) -> np.ndarray:
        return np.linalg.norm((embedding - centre) @ vectors, axis=1)

    scale = training.logits.max(axis=1).mean() / rest(rows).mean()
    return lambda embedding, logits: scale * rest(embedding) - logsumexp(logits)


SCORES: dict[str, Callable[[Training], Score]] = {
    "max-softmax": max_softmax,
    "max-logit": max_logit,
    "energy": energy,
    "knn, k = 5": nearest(5),
    "knn, k = 50": nearest(50),
    "mahalanobis": mahalanobis(relative=False, length_1=False),
    "mahalanobis, length 1": mahalanobis(relative=False, length_1=True),
    "relative mahalanobis": mahalanobis(relative=True, length_1=False),
    "vim": virtual_logit,
    "knn-whitened, k = 1": whitened(1),
    "knn-whitened, k = 5": whitened(5),
    "knn-whitened, k = 50": whitened(50),
}
