"""One evaluation: every metric of a network on one part of a data set, ready for JSON and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError
from resight.evaluation import metrics
from resight.evaluation.calibration import calibration_gaps, chance_errors
from resight.evaluation.intervals import (
    Estimate,
    calibration_interval,
    f1_interval,
    macro_intervals,
    resampled_means,
    studentized,
    wilson,
)
from resight.evaluation.metrics import Ints
from resight.evaluation.ranking import Ranking, rank_classes
from resight.evaluation.selective import aurc
from resight.evaluation.text import render


@dataclass(frozen=True)
class ClassResult:
    """One class. None where undefined: all are for a class without pictures in this part; AUROC and average
    precision also for one that has all pictures, and in evaluations stored by versions before they were measured.
    """

    name: str
    support: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    auroc: Estimate | None = None
    average_precision: Estimate | None = None


@dataclass(frozen=True)
class GroupResult:
    """The pictures of one group, such as a patient or a camera."""

    name: str
    n: int
    accuracy: Estimate


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found on ``n`` pictures.

    ``metrics`` has, in this order, "accuracy", "top5" (as many as were asked for, and only where there are
    more classes than that), "macro_precision", "macro_recall", "macro_f1", "auroc" and "average_precision" (means
    over classes, each against the rest; where a class has some of the pictures and not all), "log_loss" (nats),
    "brier" (0 … 2), "ece", "aurc"; all others in 0 … 1. ``uncalibrated`` has "log_loss", "brier" and "ece" as they
    would be without the temperature, or nothing. ``per_class`` follows ``classes``. ``confusion`` is (C, C) int64,
    rows = true, read-only. ``groups``: the lowest accuracy first, where pictures have groups. Evaluations stored
    by earlier versions lack the newer ones.
    """

    n: int
    classes: tuple[str, ...]
    metrics: Mapping[str, Estimate]
    per_class: tuple[ClassResult, ...]
    confusion: Ints
    uncalibrated: Mapping[str, Estimate] = field(default_factory=dict)
    groups: tuple[GroupResult, ...] = ()

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
            "uncalibrated": {name: asdict(estimate) for name, estimate in self.uncalibrated.items()},
            "per_class": [asdict(result) for result in self.per_class],
            "confusion": cells.tolist(),
            "groups": [asdict(group) for group in self.groups],
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
                uncalibrated={name: Estimate(**fields) for name, fields in stored.get("uncalibrated", {}).items()},
                groups=tuple(
                    GroupResult(str(g["name"]), int(g["n"]), Estimate(**g["accuracy"]))
                    for g in stored.get("groups", ())
                ),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"this is not a stored evaluation: {type(error).__name__}: {error}",
                hint="evaluate again to make a new one",
            ) from error

    def confusions(self, most: int) -> list[tuple[int, int, int]]:
        """The most frequent mistakes as (true, predicted, count); of equally frequent ones those of earlier classes."""
        wrong = self.confusion - np.diag(np.diagonal(self.confusion))
        cells = np.flatnonzero(wrong)
        cells = cells[np.argsort(-wrong.ravel()[cells], kind="stable")][:most]
        rows, columns = np.unravel_index(cells, wrong.shape)
        return [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns, strict=True)]

    def to_text(self, max_classes: int = 40) -> str:
        """Tables for a terminal: metrics, classes in class order, the five most frequent confusions.

        Of more than ``max_classes`` classes, those with the lowest F1 are shown. No colour; names are cleared
        of control and direction characters. Raises UsageError if ``max_classes`` is negative.
        """
        if max_classes < 0:
            raise UsageError(f"max_classes must be 0 or more, not {max_classes}")
        return render(self, max_classes)


def evaluate(
    logits: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    top_k: int = 5,
    seed: int = 0,
    temperature: float = 1.0,
    groups: Sequence[str | None] | None = None,
) -> Evaluation:
    """All metrics, with 95 % intervals (their methods: `resight.evaluation.intervals`).

    ``logits`` (N, C) float, as they are answered with: already divided by the temperature. ``labels`` (N,)
    int in 0 … C-1. ``classes``: the C names. ``seed`` fixes the bootstrap. ``temperature``: what the logits were
    divided by; where it is not 1, what they were worth before is measured too. ``groups``: of each picture, None
    for none. Memory: a few float64 copies of the logits.

    Raises UsageError for shapes, types or numbers of names and groups that do not fit, and a temperature that is
    not above 0; DataError for N = 0, logits that are not finite and labels outside 0 … C-1.
    """
    scores, targets = metrics.checked(logits, labels)
    if isinstance(classes, str) or len(classes) != scores.shape[1]:
        raise UsageError(f"{len(classes)} class names do not fit {scores.shape[1]} logits a picture")
    if groups is not None and len(groups) != len(targets):
        raise UsageError(f"{len(groups)} groups do not fit {len(targets)} pictures")
    if not temperature > 0:
        raise UsageError(f"the temperature must be above 0, not {temperature}")
    names = tuple(classes)
    predicted = scores.argmax(axis=1)
    matrix = metrics.confusion(predicted, targets, len(names))
    probabilities = metrics.softmax(scores)
    ranked = rank_classes(probabilities, targets)

    found = {"accuracy": _proportion(metrics.accuracy(scores, targets))}
    best = metrics.top_k(scores, targets, top_k)
    if len(names) > top_k:
        found[f"top{top_k}"] = _proportion(best)
    found |= macro_intervals(matrix, seed=seed)
    found |= {"auroc": ranked.macro_auroc} if ranked.macro_auroc else {}
    found |= {"average_precision": ranked.macro_average_precision} if ranked.macro_average_precision else {}
    found |= _confidence(scores, probabilities, targets, seed)
    found["aurc"] = aurc(probabilities, targets, seed=seed)
    before: dict[str, Estimate] = {}
    if temperature != 1:
        raw = scores * temperature
        before = _confidence(raw, metrics.softmax(raw), targets, seed)
    return Evaluation(
        len(targets),
        names,
        found,
        _each_class(names, matrix, ranked),
        _read_only(matrix),
        before,
        _each_group(groups, predicted == targets),
    )


def _confidence(scores: metrics.Floats, probabilities: metrics.Floats, targets: Ints, seed: int) -> dict[str, Estimate]:
    losses, squares = metrics.losses(scores, targets), metrics.squared_errors(probabilities, targets)
    gaps = calibration_gaps(probabilities, targets)
    rows = np.column_stack([losses, losses**2, squares, squares**2, gaps])
    drawn = resampled_means(rows, seed=seed)  # one set of draws serves all
    error, drawn_errors = float(np.abs(gaps.mean(axis=0)).sum()), np.abs(drawn[:, 4:]).sum(axis=1)
    return {
        "log_loss": studentized(losses, drawn[:, 0], drawn[:, 1]),
        "brier": studentized(squares, drawn[:, 2], drawn[:, 3], most=2.0),
        "ece": calibration_interval(error, drawn_errors, chance_errors(probabilities, seed=seed)),
    }


def _each_group(groups: Sequence[str | None] | None, right: NDArray[np.bool_]) -> tuple[GroupResult, ...]:
    members: dict[str, list[bool]] = {}
    for group, correct in zip(groups or (), right.tolist(), strict=False):
        if group is not None:
            members.setdefault(group, []).append(correct)
    results = [GroupResult(name, len(hits), wilson(sum(hits), len(hits))) for name, hits in members.items()]
    return tuple(sorted(results, key=lambda result: (result.accuracy.value, result.name)))


def _each_class(names: tuple[str, ...], matrix: Ints, ranked: Ranking) -> tuple[ClassResult, ...]:
    rights, answers, supports = (
        np.diagonal(matrix).tolist(),
        matrix.sum(axis=0).tolist(),
        matrix.sum(axis=1).tolist(),
    )
    results = []
    for name, right, answered, support, auroc, average in zip(
        names, rights, answers, supports, ranked.auroc, ranked.average_precision, strict=True
    ):
        precision = wilson(right, answered) if support and answered else None
        recall = wilson(right, support) if support else None
        f1 = f1_interval(right, answered, support) if support else None
        results.append(ClassResult(name, support, precision, recall, f1, auroc, average))
    return tuple(results)


def _proportion(count: metrics.Count) -> Estimate:
    return wilson(count.correct, count.seen)


def _class_result(fields: Mapping[str, Any]) -> ClassResult:
    newer = {"auroc": None, "average_precision": None}
    shares = {
        key: None if value is None else Estimate(**value)
        for key, value in (newer | dict(fields)).items()
        if key not in ("name", "support")
    }
    return ClassResult(name=str(fields["name"]), support=int(fields["support"]), **shares)


def _read_only(matrix: Ints) -> Ints:
    matrix.setflags(write=False)
    return matrix
