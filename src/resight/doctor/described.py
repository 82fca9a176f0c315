"""What a network's embeddings add to hashes: pictures that show nearly the same, and pictures unlike all others.

No class is needed: a Run that was pretrained on the very pictures, without labels, will do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.doctor.duplicates import Duplicates
from resight.doctor.finding import Finding, Item
from resight.evaluation.representation import lengths_one

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ALIKE = 0.1
"""A pair is called alike where its distance is below this part of what pictures usually have to their nearest."""
NEIGHBOURS = 5
_AT_ONCE = 1024


def neighbours(embeddings: Floats) -> tuple[Ints, NDArray[np.float64]]:
    """The nearest others of each of N ≥ 2 unit embeddings, nearest first: positions and distances, (N, ≤ 5)."""
    rows = lengths_one(embeddings)
    count = min(NEIGHBOURS, len(rows) - 1)
    order, distances = np.empty((len(rows), count), np.int64), np.empty((len(rows), count))
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        cosines = part @ rows.T
        cosines[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        found = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        near = np.linalg.norm(part[:, None] - rows[found], axis=2)  # without the product's rounding
        sort = np.argsort(near, axis=1, kind="stable")
        order[start : start + len(part)] = np.take_along_axis(found, sort, axis=1)
        distances[start : start + len(part)] = np.take_along_axis(near, sort, axis=1)
    return order, distances


def alike(order: Ints, distances: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Pairs much nearer to each other than pictures usually are to their nearest: (first, second, distance / usual),
    nearest first.
    """
    usual = float(np.median(distances[:, 0]))
    near: dict[tuple[int, int], float] = {}
    for own, (others, apart) in enumerate(zip(order.tolist(), distances.tolist(), strict=True)):
        for other, distance in zip(others, apart, strict=True):
            if distance < ALIKE * usual:
                near[min(own, other), max(own, other)] = distance / usual
    return sorted(((a, b, share) for (a, b), share in near.items()), key=lambda row: row[2])


def strangers(distances: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Pictures whose distance to the last of the nearest (Sun et al. 2022) is beyond the outer fence of its logarithm,
    the third quartile and three interquartile ranges (Tukey 1977, §2D): (position, times the median), farthest first.
    """
    last = np.log(np.maximum(distances[:, -1], 1e-12))
    low, middle, high = np.quantile(last, [0.25, 0.5, 0.75])
    far = np.flatnonzero(last > high + 3 * max(high - low, 1e-6))
    return sorted(((int(k), float(np.exp(last[k] - middle))) for k in far), key=lambda row: -row[1])


def findings(embeddings: Floats, positions: Ints, same: Duplicates, name: str) -> list[Finding]:
    """Of the pictures at ``positions`` (N,), whose embeddings float32 (N, D) are by the Run ``name``. Pairs that are
    duplicates by their pixels are not told again.
    """
    if len(positions) < 2 * NEIGHBOURS:
        return []
    order, distances = neighbours(embeddings)
    group = {k: number for number, members in enumerate((*same.exact, *same.near)) for k in members}
    pairs = [(int(positions[a]), int(positions[b]), share) for a, b, share in alike(order, distances)]
    new = [(a, b, share) for a, b, share in pairs if group.get(a, -1) != group.get(b, -2)]
    unlike = [(int(positions[k]), times) for k, times in strangers(distances)]
    found = []
    if new:
        found.append(Finding(
            "alike", "note", f"pictures that show nearly the same, by {name} ({len(new):,} pairs)",
            "where one is learned and the other tested, scores are too good; in one part they teach little",
            "look at each; keep pictures of one scene in one part, by a table's column group",
            items=tuple(Item((a, b), f"{100 * share:.0f} % of the usual distance") for a, b, share in new),
        ))  # fmt: skip
    if unlike:
        found.append(Finding(
            "unlike", "note", f"pictures unlike all others, by {name} ({len(unlike):,} of {len(positions):,})",
            "often they show something else, or were damaged; sometimes they are the rare ones that matter",
            "look at each; take out what does not belong, and find more of what does",
            items=tuple(Item((k,), f"{times:.1f} times the usual distance") for k, times in unlike),
        ))  # fmt: skip
    return found
