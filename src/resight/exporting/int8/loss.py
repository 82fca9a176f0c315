"""What quantizing costs: a candidate's answers against those of fp32, on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.evaluation import Estimate, compare, compare_answers, multilabel
from resight.inference.backend import Backend, Floats, Pixels
from resight.inference.tasks import probabilities_of
from resight.runs import Run

_BATCH = 16


@dataclass(frozen=True)
class Loss:
    """Of one candidate on ``n`` validation pictures.

    score: its accuracy, of a multi-label Run its mAP, 0 … 1. drop: fp32's score minus this one, with a paired 95 %
    interval. top1_agreement: the share of pictures with the same best class, of those that fp32 decides. max_abs,
    mean_abs: of the differences in probability, both at the Run's temperature.
    """

    n: int
    score: float
    drop: Estimate
    top1_agreement: float
    max_abs: float
    mean_abs: float

    def within(self, max_drop: float) -> bool:
        """Whether the point estimate is within a budget in points (hundredths)."""
        return 100 * self.drop.value <= max_drop + 1e-9


def answers(backend: Backend, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
    """Of N pictures, a few at a time. Raises RunError for answers that are not finite."""
    parts = [backend.answer(pixels[i : i + _BATCH], outputs) for i in range(0, len(pixels), _BATCH)]
    found = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    if not all(np.isfinite(array).all() for array in found):
        raise RunError("a graph answers with numbers that are not finite")
    return found


def loss_of(run: Run, fp32: Floats, int8: Floats, truth: NDArray[Any]) -> Loss:
    """From the logits (N, K) of both, and labels (N,), of a multi-label Run targets (N, K)."""
    one, other = probabilities_of(run.card, fp32), probabilities_of(run.card, int8)
    near = compare(one, other)
    if run.card.task == "multi":
        drop = multilabel.map_difference(fp32, int8, truth)
        score = multilabel.mean_average_precision(int8, truth) or 0.0
    else:
        drop = compare_answers(fp32.argmax(axis=1), int8.argmax(axis=1), truth, run.classes).overall.difference
        score = float((int8.argmax(axis=1) == truth).mean())
    return Loss(len(truth), score, drop, near.top1_agreement, near.max_abs, near.mean_abs)


def spreads_apart(one: Floats, other: Floats) -> float:
    """Mean difference of logits (N, K), in units of how much a class's logit differs between pictures."""
    spread = float(np.sqrt(one.var(axis=0, dtype=np.float64).mean()))
    return float(np.abs(one - other).mean()) / max(spread, 1e-12)
