"""What a cross-validation found: crossval.json, out_of_fold.csv and report.html, made from the sealed Runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight import samples as data_sets
from resight.errors import RunError
from resight.evaluation import CrossEvaluation, Evaluation, evaluate, over_folds, softmax
from resight.inference import csv_row, save
from resight.runs import CrossValidation, Run, Stored, out_of_fold
from resight.runs.crossval import OUT_OF_FOLD, PAGE, split_path, write_plan


def summarise(path: Path, content: dict[str, Any], runs: Sequence[Run], say: Callable[[str], None]) -> CrossValidation:
    """Evaluates the folds, writes the three files, crossval.json last; says how good it is, and where it lies.

    ``content``: of crossval.json so far. Raises RunError where the Runs are not folds of one split, StorageError, and
    what reading pictures raises.
    """
    from resight.reporting.crossval_page import write_crossval

    answers, folds = out_of_fold(runs)
    if len(answers.rows) != _tested(path, runs):
        raise RunError(f"the Runs in {path} do not answer every picture once", hint="begin anew with another --out")
    found = cross_evaluate(answers, runs)
    save(_csv(answers, folds, runs[0].classes), path / OUT_OF_FOLD)
    samples = data_sets.load(content["data"]["path"], split_csv=split_path(path, 1))
    content = content | {"classes": list(runs[0].classes), "runs": [_about(run) for run in runs]}
    result = CrossValidation(path, content | {"metrics": found.to_dict()}, tuple(runs))
    write_crossval(path / PAGE, result, found, samples, answers, folds)
    write_plan(path, result.content)
    say(f"\n{found.to_text()}\n\nthe cross-validation lies in {path}\n  look: {path / PAGE}")
    return result


def cross_evaluate(answers: Stored, runs: Sequence[Run]) -> CrossEvaluation:
    """Metrics of each fold, as sealed, over folds; and of all answers together."""
    groups = [row.group for row in answers.rows]
    pooled = evaluate(answers.logits, answers.labels, runs[0].classes, groups=groups)
    each = [Evaluation.from_dict(run.card.metrics["test"]) for run in runs]
    tested, learned = (sum(run.card.data["counts"][part] for run in runs) for part in ("test", "train"))
    return CrossEvaluation(pooled, over_folds(each, tested / learned))


def _tested(path: Path, runs: Sequence[Run]) -> int:
    """Pictures in the test parts of the splits."""
    tables = (data_sets.split_csv.read(split_path(path, number)) for number in range(1, len(runs) + 1))
    return sum(row.split == "test" for table in tables for row in table.values())


def _about(run: Run) -> dict[str, Any]:
    card = run.card
    return {
        "run": run.path.name,
        "counts": card.data["counts"],
        "temperature": card.temperature,
        "metrics": card.metrics["test"]["metrics"],
    }


def _csv(answers: Stored, folds: NDArray[np.int64], classes: Sequence[str]) -> Iterator[str]:
    """Columns: source (``file[index]`` in an array file), fold, label, answer, its probability, the label's."""
    yield csv_row(["source", "fold", "label", "answer", "probability", "label_probability"])
    chances = softmax(answers.logits)
    best = chances.argmax(axis=1)
    for k, row in enumerate(answers.rows):
        name = row.source if row.index is None else f"{row.source}[{row.index}]"
        own, label = float(chances[k, best[k]]), float(chances[k, answers.labels[k]])
        yield csv_row([name, int(folds[k]), row.label, classes[best[k]], own, label])
