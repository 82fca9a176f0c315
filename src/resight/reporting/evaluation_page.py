"""``report.html``: one evaluation as a page."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.evaluation import Comparison, Estimate, Evaluation, reliability, risk_coverage, softmax
from resight.evaluation.metrics import Floats, Ints
from resight.explaining import shrunk
from resight.images import visible
from resight.inference import Predictor
from resight.reporting import figures
from resight.reporting.adaptive import adaptive_section
from resight.reporting.heat import SIDE, HeatMaps, shown, square_of
from resight.reporting.page import svg, write_page
from resight.reporting.robustness_figure import robustness_figure
from resight.reporting.verdict import verdict
from resight.runs import HISTORY, Artifact, Run
from resight.runs.plain_json import read_json
from resight.samples import SampleSet

AIMS = (0.9, 0.95, 0.99)
GALLERY = 12  # pictures in each
DRAWN = 100  # classes in the confusion matrix, at most
SCORED = 40  # classes in the plot of F1, at most
LISTED = 100  # names in a list, at most

METHODS = {
    "wilson": "Wilson",
    "wilson-effective": "Wilson, effective number of pictures",
    "bootstrap": "bootstrap over pictures",
    "bootstrap-t": "bootstrap over pictures, studentized",
    "newcombe": "Newcombe's method 10, paired",
    "corrected-t": "Student's t over folds, corrected (Nadeau and Bengio 2003)",
}
MEANINGS = {
    "accuracy": ("Accuracy", "the share of pictures answered rightly"),
    "macro_precision": ("Precision", "how often an answer is right; mean of the classes"),
    "macro_recall": ("Recall", "how much of a class is found; mean of the classes"),
    "macro_f1": ("F1", "both in one; mean of the classes"),
    "auroc": ("AUROC", "how often a picture of a class gets more of its probability than another; mean of the classes"),
    "average_precision": ("Average precision", "precision over all thresholds; mean of the classes"),
    "log_loss": ("Log loss", "nats for each picture; 0 is sure and right"),
    "brier": ("Brier score", "squared error of the probabilities, summed over classes; 0 to 2, less is better"),
    "ece": ("Calibration error (ECE)", "how far confidence is from the truth, 15 bins; less is better"),
    "aurc": ("Risk over coverage (AURC)", "mean share of mistakes, the surest answers first; less is better"),
}


@dataclass(frozen=True, eq=False)
class Rival:
    """The second Run of a comparison. ``predicted``: its classes, by name, for the ``positions`` in `Answered` of the
    pictures that both answered.
    """

    name: str
    comparison: Comparison
    positions: NDArray[np.int64]
    predicted: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Answered:
    """What the page is made of. ``indices`` int64 (N,): positions in ``samples``; ``labels`` int64 (N,): positions in
    the Run's classes; ``logits`` (N, K), divided by the temperature. ``data``: as people call it. ``own_data``: the Run
    was trained with it. ``unknown``: the share called so, where the Run can tell. ``robustness``:
    `Robustness.to_dict`; ``augmented``: `Augmented.to_text`; where measured. ``artifact``: what answered instead of
    model.onnx; ``run`` then has its card. ``routes`` int64 (N,): which of its graphs, where there are several.
    """

    run: Run
    samples: SampleSet
    data: str
    part: str
    own_data: bool
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    evaluation: Evaluation
    warnings: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    rival: Rival | None = None
    unknown: Estimate | None = None
    robustness: dict[str, Any] | None = None
    augmented: str | None = None
    artifact: Artifact | None = None
    routes: NDArray[np.int64] | None = None


def write_report(path: Path, answered: Answered, predictor: Predictor) -> None:
    """One self-contained page, written atomically: no script, nothing fetched. A few hundred KB.

    The pictures of the galleries are read and answered once more for their heat maps. Raises StorageError, and what
    reading a picture raises.
    """
    write_page(path, "report.html", **_context(answered, predictor))


def _context(answered: Answered, predictor: Predictor) -> dict[str, Any]:
    found, run = answered.evaluation, answered.run
    chances = softmax(answered.logits)
    mistakes, unsure = galleries(chances, answered.labels)
    show = Pictures(answered, predictor, chances)
    return {
        **tables_and_figures(found, chances, answered.labels, _raw(answered)),
        "answered": answered,
        "card": run.card,
        "sentences": verdict(found, chances.max(axis=1), answered.part, answered.own_data, answered.unknown),
        "before": [(*_row(n, e), found.metrics[n]) for n, e in found.uncalibrated.items()],
        "curves": training_history(run),
        "mistakes": show.of(mistakes),
        "unsure": show.of(unsure),
        "no_heat": show.no_heat,
        "rival": _rival(answered.rival, show),
        "listed": LISTED,
        "adaptive": adaptive_section(
            answered.artifact, answered.routes, chances, answered.labels, found.classes, show.of
        ),
        "robustness": answered.robustness,
        "robustness_figure": robustness_figure(answered.robustness) if answered.robustness else "",
        "version": version("resight"),
    }


def tables_and_figures(found: Evaluation, chances: Floats, labels: Ints, raw: Floats | None) -> dict[str, Any]:
    """What pages show of an evaluation, whatever made it. ``chances`` (N, K) probabilities; ``raw``: those without a
    temperature, where there is one.
    """
    curve = risk_coverage(chances, labels)
    aims = {aim: curve.at_accuracy(aim) for aim in AIMS}
    before = None if raw is None else reliability(raw, labels)
    return {
        "found": found,
        "rows": [_row(name, estimate) for name, estimate in found.metrics.items()],
        "methods": METHODS,
        "confusions": _confusions(found),
        "matrix": _matrix(found),
        "reliability": svg(figures.reliability_diagram(before, reliability(chances, labels))),
        "risk": svg(figures.risk_coverage_curve(curve, aims)),
        "aims": aims,
        "aurc": found.metrics["aurc"],
        "classes": _worst_first(found),
        "scores": _scores(found),
    }


def galleries(chances: Floats, labels: Ints) -> tuple[Ints, Ints]:
    """Positions of the most confident mistakes and of the least certain answers, a gallery each."""
    confidence = chances.max(axis=1)
    wrong = np.flatnonzero(chances.argmax(axis=1) != labels)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:GALLERY]
    return mistakes, np.argsort(confidence, kind="stable")[:GALLERY]


def _row(name: str, estimate: Estimate) -> tuple[str, str, str, Estimate]:
    title, meaning = MEANINGS.get(name, (name.replace("top", "Top-"), "the true class is among so many best answers"))
    return name, title, meaning, estimate


class Pictures:
    """Pictures for galleries, each with the heat map of its answer beside it."""

    def __init__(self, answered: Answered, predictor: Predictor, chances: Floats) -> None:
        self._answered, self._predictor, self._chances = answered, predictor, chances
        self._maps = HeatMaps(answered.run, predictor)

    @property
    def no_heat(self) -> str:
        return self._maps.missing

    def of(self, positions: NDArray[np.int64]) -> list[dict[str, Any]]:
        if not len(positions):
            return []
        answered = self._answered
        if self._predictor.tiled:
            return [self._of_tiles(int(k)) for k in positions]
        squares = np.stack([square_of(answered.run, answered.samples, int(answered.indices[k])) for k in positions])
        best = self._chances[positions].argmax(axis=1)
        heats = self._maps.of(squares, best)
        return [
            self._item(int(k), shown(square), heat) for k, square, heat in zip(positions, squares, heats, strict=True)
        ]

    def _of_tiles(self, position: int) -> dict[str, Any]:
        """One picture at a time: they are large."""
        picture = square_of(self._answered.run, self._answered.samples, int(self._answered.indices[position]))
        heat = self._maps.of_tiles(picture, int(self._chances[position].argmax()))
        return self._item(position, shown(shrunk(visible(picture), SIDE)), heat)

    def _route(self, position: int) -> str | None:
        """Which graph of an adaptive artefact answered."""
        artifact, routes = self._answered.artifact, self._answered.routes
        return None if artifact is None or routes is None else artifact.card.routes[int(routes[position])]

    def _item(self, position: int, picture: str, heat: str) -> dict[str, Any]:
        answered, row = self._answered, self._chances[position]
        first, second = [*np.argsort(-row, kind="stable").tolist(), None][:2]
        names, true = answered.run.classes, int(answered.labels[position])
        return {
            "picture": picture,
            "heat": heat,
            "name": answered.samples.samples[answered.indices[position]].name,
            "true": names[true],
            "answer": names[first],
            "probability": float(row[first]),
            "second": None if second is None else names[second],
            "second_probability": 0.0 if second is None else float(row[second]),
            "true_probability": float(row[true]),
            "right": first == true,
            "route": self._route(position),
        }


def _confusions(found: Evaluation, most: int = 10) -> list[tuple[str, str, int, int]]:
    names = found.classes
    return [(names[i], names[j], count, int(found.confusion[i].sum())) for i, j, count in found.confusions(most)]


def _matrix(found: Evaluation) -> dict[str, Any]:
    """The whole matrix, or of more than DRAWN classes those with the most mistakes, in class order."""
    wrong = found.confusion - np.diag(np.diagonal(found.confusion))
    mistakes = wrong.sum(axis=0) + wrong.sum(axis=1)
    kept = np.sort(np.argsort(-mistakes, kind="stable")[:DRAWN])
    figure = figures.confusion_matrix(found.confusion[np.ix_(kept, kept)], [found.classes[k] for k in kept])
    width = round(float(figure.get_figwidth()) * 96)
    return {"picture": svg(figure), "width": width, "hidden": len(found.classes) - len(kept), "shown": len(kept)}


def _raw(answered: Answered) -> Floats | None:
    temperature = answered.run.card.temperature
    return None if temperature == 1 else softmax(np.asarray(answered.logits, np.float64) * temperature)


def _worst_first(found: Evaluation) -> list[Any]:
    """Classes without pictures last."""
    return sorted(found.per_class, key=lambda result: 2.0 if result.f1 is None else result.f1.value)


def _scores(found: Evaluation) -> dict[str, Any]:
    scored = [(result.name, result.f1) for result in _worst_first(found) if result.f1 is not None]
    names, values = zip(*scored[:SCORED], strict=True)
    return {"picture": svg(figures.class_scores(names, values)), "hidden": max(len(scored) - SCORED, 0)}


def training_history(run: Run) -> str:
    """The plot of metrics.jsonl. Imported Runs were not trained here: they have none."""
    if not run.records(HISTORY):
        return ""
    try:
        lines = [read_json(line) for line in run.read(HISTORY).splitlines() if line.strip()]
    except ValueError as error:
        raise RunError(f"{run.path / HISTORY} cannot be read: {error}", hint="restore it from a copy") from error
    return svg(figures.training_curves(lines)) if lines else ""


def _rival(rival: Rival | None, show: Pictures) -> dict[str, Any] | None:
    if rival is None:
        return None
    answered = show._answered
    names, ours = answered.run.classes, show._chances[rival.positions].argmax(axis=1)
    truth = answered.labels[rival.positions]
    right = ours == truth
    other = np.array([names[k] == name for k, name in zip(truth, rival.predicted, strict=True)], np.bool_)
    sides = []
    for title, rows in (("only this Run", right & ~other), ("only the other", ~right & other)):
        places = np.flatnonzero(rows)
        positions = rival.positions[places]
        items = show.of(positions[: GALLERY // 2])
        for item, place in zip(items, places, strict=False):
            item["other"] = rival.predicted[place]
        sources = [answered.samples.samples[answered.indices[k]].name for k in positions]
        sides.append({"title": title, "items": items, "sources": sources})
    each = sorted(rival.comparison.per_class, key=lambda pair: (pair.p, pair.name))
    return {"name": rival.name, "overall": rival.comparison.overall, "per_class": each, "sides": sides}
