"""``report.html`` of a Run that answers with any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.evaluation import Estimate
from resight.evaluation.metrics import Floats
from resight.evaluation.multilabel import MultilabelEvaluation, given, pairs, reliability, sigmoid
from resight.inference import Predictor
from resight.reporting import figures, multilabel_figures
from resight.reporting.evaluation_page import GALLERY, LISTED, METHODS, SCORED, training_history
from resight.reporting.heat import HeatMaps, shown, square_of
from resight.reporting.multilabel_verdict import verdict
from resight.reporting.page import svg, write_page
from resight.runs import Artifact, Run
from resight.samples import SampleSet

CURVES = 12  # classes with a precision-recall curve, at most
DRAWN = 40  # classes in the map of what is answered together, at most
SWAPPED = 10  # rows of the table of swapped labels, at most
MEANINGS = {
    "map": ("mAP", "average precision over all thresholds, mean of the classes"),
    "auroc": ("AUROC", "how often a picture with a label gets more of its probability than one without; mean"),
    "map_micro": ("mAP, labels together", "average precision of all labels in one ranking (micro)"),
    "macro_precision": ("Precision", "how often a label that is given is right; mean of the classes"),
    "macro_recall": ("Recall", "how many labels of a class are found; mean of the classes"),
    "macro_f1": ("F1", "both in one; mean of the classes"),
    "micro_precision": ("Precision, labels together", "the share of the labels given that is right (micro)"),
    "micro_recall": ("Recall, labels together", "the share of the labels there are that is found (micro)"),
    "micro_f1": ("F1, labels together", "both in one (micro)"),
    "subset_accuracy": ("All labels right", "the share of pictures with no label missed and none invented"),
    "hamming_loss": ("Labels wrong", "the share of wrong ones among all classes of all pictures (Hamming loss)"),
    "log_loss": ("Log loss", "nats for each label; 0 is sure and right"),
    "brier": ("Brier score", "mean squared error of a label's probability; 0 to 1, less is better"),
    "ece": ("Calibration error (ECE)", "how far probabilities are from the truth, 15 bins; less is better"),
}


@dataclass(frozen=True, eq=False)
class MultilabelAnswered:
    """What the page is made of. ``indices`` int64 (N,): positions in ``samples``; ``targets`` (N, K) of 0 and 1, in the
    order of the evaluation's classes, which are the Run's or some of them; ``logits`` (N, K), divided by the
    temperature. The rest as in `Answered`.
    """

    run: Run
    samples: SampleSet
    data: str
    part: str
    own_data: bool
    indices: NDArray[np.int64]
    targets: NDArray[Any]
    logits: NDArray[np.float32]
    evaluation: MultilabelEvaluation
    warnings: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    unknown: Estimate | None = None
    artifact: Artifact | None = None


def write_multilabel_report(path: Path, answered: MultilabelAnswered, predictor: Predictor) -> None:
    """One self-contained page, written atomically. Raises StorageError, and what reading a picture raises."""
    write_page(path, "multilabel.html", **_context(answered, predictor))


def _context(answered: MultilabelAnswered, predictor: Predictor) -> dict[str, Any]:
    found, run = answered.evaluation, answered.run
    places = [run.classes.index(name) for name in found.classes]
    chances, own = sigmoid(answered.logits), answered.targets.astype(bool)
    thresholds = np.array([result.threshold for result in found.per_class])
    chosen = given(chances.astype(np.float32), thresholds.tolist())
    heats = HeatMaps(run, predictor)
    gallery = _Gallery(answered, chances, chosen, heats, places)
    missed = _surest(np.where(own & ~chosen, thresholds - chances, -1.0))
    invented = _surest(np.where(chosen & ~own, chances - thresholds, -1.0))
    worst = _worst_first(found)
    drawn = [k for k in worst if found.per_class[k].average_precision is not None][:CURVES]
    return {
        "answered": answered,
        "found": found,
        "card": run.card,
        "sentences": verdict(found, answered.part, answered.own_data, answered.unknown),
        "rows": [(name, *MEANINGS[name], estimate) for name, estimate in found.metrics.items()],
        "methods": METHODS,
        "before": [(name, MEANINGS[name][0], raw, found.metrics[name]) for name, raw in found.uncalibrated.items()],
        "classes": [(found.per_class[k], run.card.thresholds[places[k]]) for k in worst],
        "averages": _averages(found, worst),
        "curves_of_classes": svg(
            multilabel_figures.precision_recall([(found.per_class[k], chances[:, k], own[:, k]) for k in drawn])
        )
        if drawn
        else "",
        "curves_hidden": len(found.classes) - len(drawn),
        "swapped": _swapped(found, own & ~chosen, chosen & ~own),
        "together": _together(found, worst),
        "reliability": svg(_reliability(answered, chances, own)),
        "history": training_history(run),
        "missed": gallery.of(missed),
        "invented": gallery.of(invented),
        "no_heat": heats.missing,
        "listed": LISTED,
        "version": version("resight"),
    }


def _surest(margins: Floats) -> list[tuple[int, int]]:
    """(picture, class) of the largest of (N, K) margins that are not negative, at most one of each picture."""
    best = margins.argmax(axis=1)
    values = margins[np.arange(len(margins)), best]
    order = np.argsort(-values, kind="stable")[:GALLERY]
    return [(int(row), int(best[row])) for row in order if values[row] >= 0]


class _Gallery:
    """Pictures with a mistake in one class, each with the heat map of that class beside it."""

    def __init__(
        self,
        answered: MultilabelAnswered,
        chances: Floats,
        chosen: NDArray[np.bool_],
        heats: HeatMaps,
        places: list[int],
    ) -> None:
        self._answered, self._chances, self._chosen = answered, chances, chosen
        self._heats, self._places = heats, places  # of its classes among the Run's

    def of(self, mistakes: list[tuple[int, int]]) -> list[dict[str, Any]]:
        if not mistakes:
            return []
        answered = self._answered
        squares = np.stack(
            [square_of(answered.run, answered.samples, int(answered.indices[row])) for row, _ in mistakes]
        )
        heats = self._heats.of(squares, np.array([self._places[k] for _, k in mistakes], np.int64))
        return [
            self._item(row, k, shown(square), heat)
            for (row, k), square, heat in zip(mistakes, squares, heats, strict=True)
        ]

    def _item(self, row: int, k: int, picture: str, heat: str) -> dict[str, Any]:
        answered, names = self._answered, self._answered.evaluation.classes
        return {
            "picture": picture,
            "heat": heat,
            "name": answered.samples.samples[answered.indices[row]].name,
            "class": names[k],
            "probability": float(self._chances[row, k]),
            "threshold": answered.evaluation.per_class[k].threshold,
            "true": [names[j] for j in np.flatnonzero(answered.targets[row])],
            "given": [names[j] for j in np.flatnonzero(self._chosen[row])],
        }


def _worst_first(found: MultilabelEvaluation) -> list[int]:
    """Classes by average precision, those without one last."""
    values = [2.0 if r.average_precision is None else r.average_precision.value for r in found.per_class]
    return sorted(range(len(values)), key=values.__getitem__)


def _averages(found: MultilabelEvaluation, worst: list[int]) -> dict[str, Any]:
    scored = [
        (found.per_class[k].name, found.per_class[k].average_precision, found.per_class[k].support / found.n)
        for k in worst
        if found.per_class[k].average_precision is not None
    ]
    if not scored:
        return {"picture": "", "hidden": 0}
    names, values, rates = zip(*scored[:SCORED], strict=True)
    figure = multilabel_figures.average_precisions(names, [value for value in values if value is not None], rates)
    return {"picture": svg(figure), "hidden": max(len(scored) - SCORED, 0)}


def _swapped(
    found: MultilabelEvaluation, missed: NDArray[np.bool_], invented: NDArray[np.bool_]
) -> list[tuple[str, str, int, int]]:
    """The most frequent pairs of a label missed and another invented on one picture: names, pictures, missed in all."""
    together = pairs(missed, invented)
    cells = np.flatnonzero(together)
    cells = cells[np.argsort(-together.ravel()[cells], kind="stable")][:SWAPPED]
    rows, columns = np.unravel_index(cells, together.shape)
    sums = missed.sum(axis=0)
    return [
        (found.classes[i], found.classes[j], int(together[i, j]), int(sums[i]))
        for i, j in zip(rows, columns, strict=True)
    ]


def _together(found: MultilabelEvaluation, worst: list[int]) -> dict[str, Any]:
    """Of more than DRAWN classes those with the lowest average precision, in class order."""
    kept = np.sort(np.array(worst[:DRAWN], np.int64))
    supports = np.array([found.per_class[k].support for k in kept])
    figure = multilabel_figures.answered_together(
        found.together[np.ix_(kept, kept)], supports, [found.classes[k] for k in kept]
    )
    width = round(float(figure.get_figwidth()) * 96)
    return {"picture": svg(figure), "width": width, "hidden": len(found.classes) - len(kept), "shown": len(kept)}


def _reliability(answered: MultilabelAnswered, chances: Floats, own: NDArray[np.bool_]) -> Any:
    temperature = answered.run.card.temperature
    raw = None
    if temperature != 1:
        raw = reliability(sigmoid(np.asarray(answered.logits, np.float64) * temperature), own)
    figure = figures.reliability_diagram(raw, reliability(chances, own))
    columns = 2 if raw else 1
    figure.axes[0].set_ylabel("share of these labels that is there")
    figure.axes[columns].set_ylabel("labels")
    for axes in figure.axes[columns:]:
        axes.set_xlabel("probability of the label")
    return figure
