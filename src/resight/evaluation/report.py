"""One evaluation: every metric of a network on one part of a data set, ready for JSON and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import DataError, UsageError
from resight.evaluation import metrics
from resight.evaluation.calibration import calibration_gaps, chance_errors
from resight.evaluation.intervals import (
    Estimate,
    calibration_interval,
    f1_interval,
    macro_intervals,
    percentile,
    resampled_means,
    wilson,
)
from resight.evaluation.metrics import Ints
from resight.evaluation.text import render


@dataclass(frozen=True)
class ClassResult:
    """One class. None where undefined; all three are for a class without pictures in this part."""

    name: str
    support: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found on ``n`` pictures.

    ``metrics`` has, in this order, "accuracy", "top5" (as many as were asked for, and only where there are
    more classes than that), "macro_precision", "macro_recall", "macro_f1", "log_loss" (nats), "ece"; all but
    the log loss in 0 … 1. ``per_class`` follows ``classes``. ``confusion`` is (C, C) int64, rows = true,
    read-only.
    """

    n: int
    classes: tuple[str, ...]
    metrics: Mapping[str, Estimate]
    per_class: tuple[ClassResult, ...]
    confusion: Ints

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and None for JSON: no NaN, no infinity.

        ``confusion`` is a list of [true, predicted, count] of the cells that are not 0: a thousand classes
        stay small.
        """
        true, predicted = np.nonzero(self.confusion)
        cells = np.stack([true, predicted, self.confusion[true, predicted]], axis=1)
        return {
            "n": self.n,
            "classes": list(self.classes),
            "metrics": {name: asdict(estimate) for name, estimate in self.metrics.items()},
            "per_class": [asdict(result) for result in self.per_class],
            "confusion": cells.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. Raises DataError if ``stored`` is not what that made."""
        try:
            classes = tuple(str(name) for name in stored["classes"])
            matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
            for true, predicted, count in stored["confusion"]:
                matrix[true, predicted] = count
            return cls(
                n=int(stored["n"]),
                classes=classes,
                metrics={name: Estimate(**fields) for name, fields in stored["metrics"].items()},
                per_class=tuple(_class_result(fields) for fields in stored["per_class"]),
                confusion=_read_only(matrix),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"this is not a stored evaluation: {type(error).__name__}: {error}",
                hint="evaluate again to make a new one",
            ) from error

    def to_text(self, max_classes: int = 40) -> str:
        """Tables for a terminal: metrics, classes in class order, the five most frequent confusions.

        Of more than ``max_classes`` classes, those with the lowest F1 are shown. No colour; names are cleared
        of control and direction characters. Raises UsageError if ``max_classes`` is negative.
        """
        if max_classes < 0:
            raise UsageError(f"max_classes must be 0 or more, not {max_classes}")
        return render(self, max_classes)


def evaluate(
    logits: ArrayLike, labels: ArrayLike, classes: Sequence[str], *, top_k: int = 5, seed: int = 0
) -> Evaluation:
    """All metrics, with 95 % intervals (their methods: `resight.evaluation.intervals`).

    ``logits`` (N, C) float, as they are answered with: already divided by the temperature. ``labels`` (N,)
    int in 0 … C-1. ``classes``: the C names. ``seed`` fixes the bootstrap. Memory: a few float64 copies of
    the logits.

    Raises UsageError for shapes, types or a number of names that do not fit; DataError for N = 0, logits that
    are not finite and labels outside 0 … C-1.
    """
    scores, targets = metrics.checked(logits, labels)
    if isinstance(classes, str) or len(classes) != scores.shape[1]:
        raise UsageError(f"{len(classes)} class names do not fit {scores.shape[1]} logits a picture")
    names = tuple(classes)
    matrix = metrics.confusion(scores.argmax(axis=1), targets, len(names))

    found = {"accuracy": _proportion(metrics.accuracy(scores, targets))}
    best = metrics.top_k(scores, targets, top_k)
    if len(names) > top_k:
        found[f"top{top_k}"] = _proportion(best)
    found |= macro_intervals(matrix, seed=seed)
    found |= _loss_and_calibration(scores, targets, seed)
    return Evaluation(len(targets), names, found, _each_class(names, matrix), _read_only(matrix))


def _loss_and_calibration(scores: metrics.Floats, targets: Ints, seed: int) -> dict[str, Estimate]:
    losses, probabilities = metrics.losses(scores, targets), metrics.softmax(scores)
    gaps = calibration_gaps(probabilities, targets)
    drawn = resampled_means(np.column_stack([losses, gaps]), seed=seed)  # one set of draws serves both
    error, drawn_errors = float(np.abs(gaps.mean(axis=0)).sum()), np.abs(drawn[:, 1:]).sum(axis=1)
    return {
        "log_loss": percentile(float(losses.mean()), drawn[:, 0]),
        "ece": calibration_interval(error, drawn_errors, chance_errors(probabilities, seed=seed)),
    }


def _each_class(names: tuple[str, ...], matrix: Ints) -> tuple[ClassResult, ...]:
    rights, answers, supports = (
        np.diagonal(matrix).tolist(),
        matrix.sum(axis=0).tolist(),
        matrix.sum(axis=1).tolist(),
    )
    results = []
    for name, right, answered, support in zip(names, rights, answers, supports, strict=True):
        precision = wilson(right, answered) if support and answered else None
        recall = wilson(right, support) if support else None
        f1 = f1_interval(right, answered, support) if support else None
        results.append(ClassResult(name, support, precision, recall, f1))
    return tuple(results)


def _proportion(count: metrics.Count) -> Estimate:
    return wilson(count.correct, count.seen)


def _class_result(fields: Mapping[str, Any]) -> ClassResult:
    shares = {key: None if fields[key] is None else Estimate(**fields[key]) for key in ("precision", "recall", "f1")}
    return ClassResult(name=str(fields["name"]), support=int(fields["support"]), **shares)


def _read_only(matrix: Ints) -> Ints:
    matrix.setflags(write=False)
    return matrix
