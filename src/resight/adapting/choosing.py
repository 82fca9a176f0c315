"""Which few policies become graphs, and how readily pictures go to the whole network. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.adapting.cascade import POINTS, Point
from resight.inference.backend import Floats

Kept = NDArray[np.bool_]
Ints = NDArray[np.int64]


def frequent(logits: Floats, most: int) -> Kept:
    """The policies (R, L) that pictures with these logits (N, L) are given most often, R ≤ ``most``, the most frequent
    first. The one that keeps everything is not among them.
    """
    kept = logits >= 0
    found, counts = np.unique(kept, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    chosen = [found[k] for k in order if not found[k].all()][:most]
    return np.array(chosen, bool).reshape(len(chosen), logits.shape[1])


@dataclass(frozen=True, eq=False)
class Routes:
    """What may be chosen, on N validation pictures. scores: float (N, R + 1), log-likelihoods of R policies and, last,
    of the whole network. right: bool (N, R + 1), whether each answers correctly. seconds: of each, for a single
    picture, and gate: of the policy before it.
    """

    scores: Floats
    right: NDArray[np.bool_]
    seconds: tuple[float, ...]
    gate: float

    def taken(self, bias: float) -> Ints:
        """Which route each picture takes where ``bias`` is added to the whole network's score, (N,)."""
        scores = self.scores.copy()
        scores[:, -1] += np.float32(bias)
        found: Ints = scores.argmax(axis=1)
        return found

    def point(self, bias: float) -> Point:
        """threshold: the bias; on: the share that the whole network answers."""
        taken = self.taken(bias)
        right = self.right[np.arange(len(taken)), taken]
        seconds = self.gate + float(np.array(self.seconds)[taken].mean())
        on = float((taken == self.right.shape[1] - 1).mean())
        return Point(bias, on, float(right.mean()), seconds)

    def curve(self, points: int = POINTS) -> tuple[Point, ...]:
        """From nobody answered by the whole network to everybody, at evenly spaced shares."""
        lead = np.sort(self.scores[:, :-1].max(axis=1) - self.scores[:, -1])
        between = (lead[1:] + lead[:-1]) / 2
        inner = between[(np.linspace(0, 1, points)[1:-1] * len(between)).astype(int)] if len(between) else between
        return tuple(self.point(float(bias)) for bias in [lead[0] - 1, *np.unique(inner), lead[-1] + 1])


def subsets(logits: Floats, policies: Kept) -> list[Sequence[int]]:
    """The sets of routes that are tried: the first policy, the first two, …; each with the whole network."""
    return [list(range(count)) for count in range(1, len(policies) + 1)]


def scores_of(logits: Floats, policies: Kept) -> Floats:
    """Log-likelihoods (N, R) of policies (R, L), up to what all share, as the gate computes them."""
    found: Floats = (logits @ policies.astype(np.float32).T).astype(np.float32)
    return found
