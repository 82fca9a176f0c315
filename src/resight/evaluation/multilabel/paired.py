"""Two networks with any number of labels on the same pictures: their difference in mAP."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import DataError, UsageError
from resight.evaluation.intervals import JACKKNIFE, Z95, Estimate
from resight.evaluation.multilabel.metrics import checked, rankable
from resight.evaluation.ranking import rank_class


def map_difference(first: ArrayLike, second: ArrayLike, targets: ArrayLike) -> Estimate:
    """mAP of the first scores (N, K) minus that of the second, -1 … 1, with a paired 95 % interval: the infinitesimal
    jackknife (Efron 1982, chapter 6) of the difference, so that what both find hard or easy cancels. It has no width
    where both rank all pictures alike.

    Raises as `metrics.checked` does; UsageError for scores of two shapes, DataError where no class can be ranked.
    """
    ours, own = checked(first, targets)
    theirs, _ = checked(second, targets)
    if ours.shape != theirs.shape:
        raise UsageError(f"scores of shapes {ours.shape} and {theirs.shape}")
    classes = rankable(own)
    if not classes:
        raise DataError("no class that some pictures have and some not: there is no mAP to compare")
    value, slope = 0.0, np.zeros(len(own))
    for k in classes:
        a, b = (rank_class(scores[:, k], own[:, k]) for scores in (ours, theirs))
        value += (a.average_precision - b.average_precision) / len(classes)
        slope += (a.precision_slope - b.precision_slope) / len(classes)
    n = len(own)
    spread = Z95 * math.sqrt(float(slope @ slope) * n / max(n - 1, 1))
    return Estimate(value, max(value - spread, -1.0), min(value + spread, 1.0), JACKKNIFE)
