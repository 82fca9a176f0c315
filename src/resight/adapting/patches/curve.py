"""Accuracy against the share of tiles that are looked at, and which share to take. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.adapting.patches.facts import Facts, Scores
from resight.evaluation import Estimate, compare_answers
from resight.inference.patches import best, looked_at

SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Point:
    """share: of each picture's tiles, as asked; looked: of all tiles, as it came out; accuracy: 0 … 1."""

    share: float
    looked: float
    accuracy: float


def answered(facts: Facts, scores: Scores, share: float) -> NDArray[np.float64]:
    """Logits (N, K) where of each picture the ``share`` of tiles with the largest scores is looked at."""
    rows = []
    for picture, own in enumerate(scores):
        rows.append(facts.answer(picture, best(own, looked_at(share, len(own)))))
    return np.stack(rows)


def curve(facts: Facts, scores: Scores, shares: Sequence[float] = SHARES) -> tuple[Point, ...]:
    """A point for each of the shares, which rise."""
    counts = [len(one) for one in scores]
    found = []
    for share in shares:
        right = answered(facts, scores, share).argmax(axis=1) == facts.labels
        looked = sum(looked_at(share, count) for count in counts) / sum(counts)
        found.append(Point(share, looked, float(right.mean())))
    return tuple(found)


def mean_curve(curves: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """Of several drawings at random, the mean accuracy."""
    return tuple(
        Point(points[0].share, points[0].looked, float(np.mean([point.accuracy for point in points])))
        for points in zip(*curves, strict=True)
    )


def operating_point(points: Sequence[Point], whole: float, max_drop: float) -> Point | None:
    """The smallest share from which on no larger one loses more than ``max_drop`` points of the accuracy ``whole``
    (0 … 1); None where that is all tiles only. One lucky share among worse ones is not taken.
    """
    chosen = None
    for point in reversed(points):
        if 100 * (whole - point.accuracy) > max_drop + 1e-9:
            break
        chosen = point
    return chosen if chosen is not None and chosen.looked < 1 else None


def in_order(points: Mapping[str, Point | None], gained: Estimate | None) -> list[tuple[str, Point]]:
    """The rules that have a point, the one to try first before the others: detail, unless the policy looks at fewer
    tiles and is shown to be better there. gained: see ``gain``.
    """
    shares = {rule: 1.0 if point is None else point.looked for rule, point in points.items()}
    better = gained is not None and gained.low > 0 and shares["policy"] < shares["detail"]
    order = ("policy", "detail") if better else ("detail", "policy")
    return [(rule, point) for rule in order if (point := points[rule]) is not None]


def gain(facts: Facts, scores: Mapping[str, Scores], point: Point | None, classes: Sequence[str]) -> Estimate | None:
    """The policy's accuracy minus that of the tiles with most detail, at the share of the policy's point, with a paired
    95 % interval; None without a point.
    """
    if point is None:
        return None
    own, simple = (answered(facts, scores[rule], point.share).argmax(axis=1) for rule in ("policy", "detail"))
    return compare_answers(own, simple, facts.labels, classes).overall.difference


def plain_points(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{"share": p.share, "looked": p.looked, "accuracy": p.accuracy} for p in points]
