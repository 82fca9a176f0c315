"""How good a description of pictures is, with labels and without: pure functions of embeddings.

Embeddings are (N, D), one row a picture; ``unit`` rows have length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Of ``knn_vote``: the temperature of Wu et al. 2018, §3.4; fewer neighbours than their 200, for small banks."""


def lengths_one(embeddings: NDArray[Any]) -> NDArray[np.float64]:
    """Each row scaled to length 1, in float64; a row of zeros stays."""
    rows = embeddings.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def knn_vote(
    bank: NDArray[Any],
    labels: Labels,
    queries: NDArray[Any],
    classes: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """Votes (M, classes) of the nearest of N labelled embeddings, by cosine, for M queries; each counts
    exp(cosine / temperature) (Wu et al. 2018, §3.4). The answer is the class with most votes.
    """
    near = min(neighbours, len(bank))
    cosines = lengths_one(queries) @ lengths_one(bank).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :near]
    weights = np.exp((np.take_along_axis(cosines, order, axis=1) - 1) / temperature)
    votes = np.zeros((len(queries), classes))
    for place in range(near):
        votes[np.arange(len(queries)), labels[order[:, place]]] += weights[:, place]
    return votes


def spread(embeddings: NDArray[Any]) -> float:
    """Mean over the D numbers of their standard deviation over the unit embeddings, times √D: 1 where they lie all
    around the sphere, 0 where all are one (Chen and He 2021, §4.1, figure 2).
    """
    unit = lengths_one(embeddings)
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def effective_rank(embeddings: NDArray[Any]) -> float:
    """In how many directions embeddings differ: exp of the entropy of their singular values, 1 … min(N, D) (RankMe:
    Garrido et al. 2023, eq. 2; Roy and Vetterli 2007).
    """
    values = np.linalg.svd(embeddings.astype(np.float64), compute_uv=False)
    shares = values / max(float(values.sum()), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alignment(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean squared distance of the unit embeddings of two views (N, D) of the same pictures, 0 … 4; low is good (Wang
    and Isola 2020, eq. 1, α = 2).
    """
    return float(((lengths_one(first) - lengths_one(second)) ** 2).sum(axis=1).mean())


def uniformity(embeddings: NDArray[Any]) -> float:
    """ln of the mean over all pairs of exp(−2 · squared distance) of unit embeddings, −8 … 0; low is good (Wang and
    Isola 2020, eq. 2, t = 2). 0 of fewer than two.
    """
    unit = lengths_one(embeddings)
    above = np.triu_indices(len(unit), 1)
    if not len(above[0]):
        return 0.0
    distances = 2 - 2 * (unit @ unit.T)[above]
    return float(np.log(np.exp(-2 * distances).mean()))
