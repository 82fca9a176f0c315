"""``report.html`` of a cross-validation: its folds, and all out-of-fold answers as one evaluation."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resight.evaluation import CrossEvaluation, Estimate, softmax
from resight.evaluation.metrics import Floats, Ints
from resight.inference import Predictor
from resight.reporting import figures
from resight.reporting.evaluation_page import MEANINGS, Answered, Pictures, galleries, tables_and_figures
from resight.reporting.page import svg, write_page
from resight.reporting.verdict import FEW_OF_A_CLASS
from resight.runs import CrossValidation, Stored
from resight.samples import SampleSet

NUMBERS = ("log_loss", "brier")  # all others are shares
NAMED = 5


def write_crossval(
    path: Path, result: CrossValidation, found: CrossEvaluation, samples: SampleSet, answers: Stored, folds: Ints
) -> None:
    """One self-contained page, written atomically: no script, nothing fetched.

    ``samples``: what the Runs were trained with, to read the pictures of the galleries; ``answers`` and ``folds``
    int64 (N,), 1 … k: as `resight.runs.out_of_fold` gives them. Each picture is shown with the heat map of the network
    that had not seen it. Raises StorageError, and what reading a picture raises.
    """
    chances = softmax(answers.logits)
    temperatures = np.array([run.card.temperature for run in result.runs])
    raw = None
    if (temperatures != 1).any():
        raw = softmax(np.asarray(answers.logits, np.float64) * temperatures[folds - 1][:, None])
    show = _Shown(result, found, samples, answers, folds, chances)
    mistakes, unsure = galleries(chances, answers.labels)
    write_page(
        path,
        "crossval.html",
        **tables_and_figures(found.pooled, chances, answers.labels, raw),
        result=result,
        card=result.runs[0].card,
        content=result.content,
        count=len(result.runs),
        learned=sum(run.card.data["counts"]["train"] for run in result.runs),  # of all folds together
        spreads=[_row(name, spread) for name, spread in found.folds.items()],
        each=[_fold(found, number, run) for number, run in enumerate(result.runs)],
        folds_figure=svg(figures.class_scores(*_accuracies(result, found), what="accuracy")),
        small=[r.name for r in found.pooled.per_class if 0 < r.support < FEW_OF_A_CLASS],
        named=NAMED,
        mistakes=show.of(mistakes),
        unsure=show.of(unsure),
        no_heat=show.no_heat,
        version=version("resight"),
    )


def _row(name: str, spread: Any) -> dict[str, Any]:
    title, meaning = MEANINGS.get(name, (name.replace("top", "Top-"), "the true class is among so many best answers"))
    return {"name": name, "title": title, "meaning": meaning, "spread": spread, "plain": name in NUMBERS}


def _fold(found: CrossEvaluation, number: int, run: Any) -> dict[str, Any]:
    metrics = {name: Estimate(**fields) for name, fields in run.card.metrics["test"]["metrics"].items()}
    return {
        "number": number + 1,
        "folder": run.path.name,
        "counts": run.card.data["counts"],
        "temperature": run.card.temperature,
        "metrics": metrics,
    }


def _accuracies(result: CrossValidation, found: CrossEvaluation) -> tuple[list[str], list[Estimate]]:
    """Each fold's accuracy with Wilson's interval, and that of all together."""
    each = [Estimate(**run.card.metrics["test"]["metrics"]["accuracy"]) for run in result.runs]
    names = [f"fold {number}" for number in range(1, len(each) + 1)]
    return [*names, "all folds, pooled"], [*each, found.pooled.metrics["accuracy"]]


class _Shown:
    """Pictures for galleries, each with the heat map of the network that answered it out of fold."""

    def __init__(
        self,
        result: CrossValidation,
        found: CrossEvaluation,
        samples: SampleSet,
        answers: Stored,
        folds: Ints,
        chances: Floats,
    ) -> None:
        self._result, self._found, self._samples = result, found, samples
        self._answers, self._folds, self._chances = answers, folds, chances
        self._known: dict[int, Pictures] = {}
        self.no_heat = ""

    def of(self, positions: Ints) -> list[dict[str, Any]]:
        """One after the other, in the order of ``positions``: a gallery has a dozen."""
        items = []
        for position in positions:
            pictures = self._pictures(int(self._folds[position]))
            items += pictures.of(np.array([position]))
            self.no_heat = self.no_heat or pictures.no_heat
        return items

    def _pictures(self, fold: int) -> Pictures:
        """What shows pictures with the network of ``fold``, made when it is first needed."""
        if fold not in self._known:
            run, answers = self._result.runs[fold - 1], self._answers
            answered = Answered(
                run,
                self._samples,
                self._samples.root.name,
                "test",
                True,
                answers.indices,
                answers.labels,
                answers.logits,
                self._found.pooled,
            )
            predictor = Predictor(run, backend="onnxruntime")
            self._known[fold] = Pictures(answered, predictor, self._chances)
        return self._known[fold]
