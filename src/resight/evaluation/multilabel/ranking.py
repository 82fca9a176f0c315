"""Does a label's probability rank the pictures that have it above the others, with intervals over pictures?"""

from __future__ import annotations

import numpy as np

from resight.evaluation.intervals import Estimate, effective
from resight.evaluation.metrics import Floats
from resight.evaluation.multilabel.metrics import Bools
from resight.evaluation.ranking import Ranking, rank_binary, rank_class


def rank_labels(chances: Floats, targets: Bools) -> tuple[Ranking, Estimate | None]:
    """AUROC and average precision of each class and their means, and the average precision of all labels ranked
    together (micro); (N, K) probabilities and targets. None where all labels, or none, are there.

    A picture is one draw: its influence on the micro average is the sum of those of its K labels.
    """
    ranked = rank_binary(chances, targets)
    there = int(targets.sum())
    if there in (0, targets.size):
        return ranked, None
    one = rank_class(chances.ravel(), targets.ravel())
    slope = one.precision_slope.reshape(targets.shape).sum(axis=1)
    pictures = int(targets.any(axis=1).sum())  # those that have a label: of so many the micro average tells at most
    small = pictures / (pictures - 1) if pictures > 1 else float("inf")
    return ranked, effective(one.average_precision, float(slope @ slope) * small, float(np.maximum(pictures, 1)))
