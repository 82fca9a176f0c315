"""From the rows of what a graph answers to a `Prediction`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from resight.inference.backend import Floats
from resight.inference.prediction import Prediction, Unlikeness
from resight.inference.tasks import labels_of
from resight.inference.unknown import Unknowns
from resight.runs import RunCard


def predicted(
    name: str,
    card: RunCard,
    probabilities: Floats,
    top: int,
    unlike: Floats | None = None,
    unknowns: Unknowns | None = None,
    route: Floats | None = None,
    routes: Sequence[str] = (),
    looked: Floats | None = None,
) -> Prediction:
    """For one picture: probabilities (K,) of the card's classes; how unlike the training data it is, and the Run's way
    to tell; which of the ``routes`` answered, from 0; at how many tiles was looked, of how many (2,). The last ones are
    numbers, None where they are not known.
    """
    best = np.argsort(-probabilities, kind="stable")[:top]
    pairs = tuple((card.classes[k], float(probabilities[k])) for k in best)
    return replace(
        described(name, unlike, unknowns),
        label=pairs[0][0],
        probability=pairs[0][1],
        top=pairs,
        labels=labels_of(card, probabilities),
        route=None if route is None else routes[int(route)],
        tiles=None if looked is None else (int(looked[0]), int(looked[1])),
    )


def described(name: str, unlike: Floats | None, unknowns: Unknowns | None) -> Prediction:
    """What is known of a picture without classes: whether it is unlike the training data."""
    if unlike is None or unknowns is None:
        return Prediction(name, None, None)
    score = Unlikeness(unknowns.score, float(unlike), unknowns.threshold)
    return Prediction(name, None, None, unknown=score.unknown, score=score)
