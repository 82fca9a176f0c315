"""What the two tasks of a Run answer differently: one class a picture, or any number of labels."""

from __future__ import annotations

import numpy as np

from resight.errors import UsageError
from resight.evaluation import softmax
from resight.evaluation.metrics import Floats as Doubles
from resight.evaluation.multilabel import given, sigmoid
from resight.inference.backend import Floats
from resight.runs import Run, RunCard

Labels = tuple[tuple[str, float], ...]
FORMULAS = {"single": "softmax(logits / temperature)", "multi": "sigmoid(logits / temperature)"}


def probabilities_of(card: RunCard, logits: Floats) -> Doubles:
    """What the graph of this Run must answer for logits (N, K): float64 (N, K) in 0 … 1."""
    scaled = logits.astype(np.float64) / card.temperature
    return softmax(scaled) if card.task == "single" else sigmoid(scaled)


def labels_of(card: RunCard, probabilities: Floats) -> Labels | None:
    """The classes that are answered for one picture (K,), most probable first: those from their thresholds on. None
    for a Run that answers with one class.
    """
    if card.task != "multi":
        return None
    chosen = np.flatnonzero(given(probabilities, [threshold.value for threshold in card.thresholds]))
    order = chosen[np.argsort(-probabilities[chosen], kind="stable")]
    return tuple((card.classes[k], float(probabilities[k])) for k in order)


def only_answering(run: Run, what: str) -> None:
    """Raises UsageError where ``run`` was pretrained without labels: ``what`` needs classes."""
    if run.card.task == "features":
        raise UsageError(
            f"{run.path} was pretrained without labels: it has no classes, which {what} needs",
            hint=f"train it with labels first: resight train DATA --weights {run.path}; or look for pictures that are "
            "alike: resight embed",
        )


def only_single(run: Run, what: str) -> None:
    """Raises UsageError where ``run`` answers with any number of labels: ``what`` needs one class a picture."""
    only_answering(run, what)
    if run.card.task == "multi":
        raise UsageError(
            f"{what} is for Runs that answer with one class a picture; {run.path} answers with any number of labels",
            hint="see docs/multilabel.md for what there is for such Runs",
        )
