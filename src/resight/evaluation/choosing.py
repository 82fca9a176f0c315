"""Which pictures to label next: pure functions of embeddings, and of how sure a network is.

Typical ones of groups that nobody has labelled yet (TypiClust: Hacohen, Dekel and Weinshall 2022), which is what few
labels gain most by; and, once a network answers, ones that it is unsure of and that are unlike each other (CLUE: Prabhu
et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.evaluation.representation import lengths_one

Rows = NDArray[np.float64]
Ints = NDArray[np.int64]

NEIGHBOURS = 20
MOST_GROUPS = 500
"""As in Hacohen et al. 2022, §3.2: typicality over 20 neighbours, at most 500 groups."""
_ROUNDS = 30


@dataclass(frozen=True)
class Chosen:
    """positions: (C,) in the order in which they should be labelled. stands_for: (C,) pictures of each one's group."""

    positions: Ints
    stands_for: Ints


def groups(rows: Rows, count: int, seed: int, weights: NDArray[np.floating] | None = None) -> tuple[Ints, Rows]:
    """k-means (Lloyd 1982), begun by k-means++ (Arthur and Vassilvitskii 2007): of each of N rows its group, (N,), and
    the ``count`` means. weights: (N,), how much a row counts, above 0; None: all alike. A function of its arguments.
    """
    random = np.random.default_rng(seed)
    weight = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    means = rows[_seeds(rows, weight, count, random)]
    own = np.full(len(rows), -1, np.int64)
    for _ in range(_ROUNDS):
        distances = _distances(rows, means)
        found = distances.argmin(axis=1)
        if np.array_equal(found, own):
            break
        own = found
        total = np.bincount(own, weight, count)
        for group in np.flatnonzero(total == 0).tolist():  # an empty one takes the row that is farthest from its mean
            far = int((weight * distances[np.arange(len(rows)), own]).argmax())
            own[far], distances[far] = group, 0
        sums = np.zeros_like(means)
        np.add.at(sums, own, weight[:, None] * rows)
        means = sums / np.maximum(np.bincount(own, weight, count), 1e-12)[:, None]
    return own, means


def _seeds(rows: Rows, weight: NDArray[np.float64], count: int, random: np.random.Generator) -> Ints:
    """Rows far from each other: each drawn by its weighted squared distance to the nearest before it."""
    chosen = [int(random.choice(len(rows), p=weight / weight.sum()))]
    nearest = _distances(rows, rows[chosen])[:, 0]
    while len(chosen) < count:
        share = weight * nearest
        share[chosen] = 0
        if share.sum() <= 0:  # only copies are left
            share = np.where(np.isin(np.arange(len(rows)), chosen), 0.0, 1.0)
        chosen.append(int(random.choice(len(rows), p=share / share.sum())))
        nearest = np.minimum(nearest, _distances(rows, rows[chosen[-1:]])[:, 0])
    return np.array(chosen, np.int64)


def _distances(rows: Rows, means: Rows) -> Rows:
    """Squared distances, (N, K)."""
    found: Rows = (rows**2).sum(1)[:, None] + (means**2).sum(1)[None] - 2 * rows @ means.T
    return np.maximum(found, 0)


def typicality(rows: Rows) -> NDArray[np.float64]:
    """(N,): one by the mean distance to the nearest of the same rows, at most ``NEIGHBOURS`` (Hacohen et al. 2022, eq.
    2); high where many are alike.
    """
    if len(rows) == 1:
        return np.ones(1)
    near = min(NEIGHBOURS, len(rows) - 1)
    found = np.empty(len(rows))
    for start in range(0, len(rows), 1024):
        distances = np.sqrt(_distances(rows[start : start + 1024], rows))
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = np.inf
        found[start : start + 1024] = np.partition(distances, near - 1, axis=1)[:, :near].mean(axis=1)
    return 1 / np.maximum(found, 1e-9)


def typical(embeddings: NDArray[Any], count: int, seed: int, labelled: NDArray[np.bool_] | None = None) -> Chosen:
    """``count`` of N pictures without a network that answers: the most typical of each of the largest groups that hold
    no labelled picture; where all groups hold some, of those with fewest labels. labelled: (N,), which have one.
    """
    rows = lengths_one(embeddings)
    known = np.zeros(len(rows), bool) if labelled is None else labelled.copy()
    own, _ = groups(rows, min(MOST_GROUPS, int(known.sum()) + count, len(rows)), seed)
    sizes = np.bincount(own)
    chosen: list[int] = []
    typicalities: dict[int, NDArray[np.float64]] = {}
    for _ in range(count):
        have = np.bincount(own[known], minlength=len(sizes))
        left = np.bincount(own[~known], minlength=len(sizes))
        group = min(np.flatnonzero(left).tolist(), key=lambda k: (have[k], -sizes[k], k))
        members = np.flatnonzero(own == group)
        if group not in typicalities:
            typicalities[group] = typicality(rows[members])
        free = ~known[members]
        best = int(members[free][typicalities[group][free].argmax()])
        chosen.append(best)
        known[best] = True
    positions = np.array(chosen, np.int64)
    return Chosen(positions, sizes[own[positions]])


def unsure(
    embeddings: NDArray[Any],
    probabilities: NDArray[Any],
    count: int,
    seed: int,
    labelled: NDArray[np.bool_] | None = None,
) -> Chosen:
    """``count`` of N pictures that a network answers with probabilities (N, K): as many groups, in which a picture
    counts by 1 − the margin between its two best classes; of each the one nearest to its mean. Those first whose group
    is the least sure in all.
    """
    open_ = np.arange(len(embeddings)) if labelled is None else np.flatnonzero(~labelled)
    rows = lengths_one(embeddings[open_])
    doubt = np.maximum(1 - margins(probabilities[open_]), 1e-6)
    own, means = groups(rows, count, seed, doubt)
    distances = _distances(rows, means)
    total = np.bincount(own, doubt, count)
    positions = []
    for group in np.argsort(-total, kind="stable").tolist():
        members = np.flatnonzero(own == group)
        if len(members):
            positions.append(int(members[distances[members, group].argmin()]))
    taken_already = set(positions)
    others = [k for k in np.argsort(-doubt, kind="stable").tolist() if k not in taken_already]
    taken = np.array([*positions, *others][:count], np.int64)  # copies make fewer groups than are wanted
    return Chosen(open_[taken], np.bincount(own, minlength=count)[own[taken]])


def margins(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """(N,): the best class's probability less the second's, 0 … 1; 1 where there is one class."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    best = -np.sort(-probabilities.astype(np.float64), axis=1)[:, :2]
    found: NDArray[np.float64] = best[:, 0] - best[:, 1]
    return found
