"""A multi-label evaluation as plain text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resight.evaluation.text import FEW, GROUPED, NUMBERS, clean, nats, percent, table

if TYPE_CHECKING:
    from resight.evaluation.multilabel.report import LabelResult, MultilabelEvaluation

LABELS = {
    "map": "mAP, mean of classes",
    "auroc": "AUROC, mean of classes",
    "map_micro": "mAP, labels together",
    "macro_precision": "precision, mean of classes",
    "macro_recall": "recall, mean of classes",
    "macro_f1": "F1, mean of classes",
    "micro_precision": "precision, labels together",
    "micro_recall": "recall, labels together",
    "micro_f1": "F1, labels together",
    "subset_accuracy": "all labels right",
    "hamming_loss": "labels wrong (Hamming)",
    "log_loss": "log loss of a label",
    "brier": "Brier score of a label",
    "ece": "calibration error",
}


def render(evaluation: MultilabelEvaluation, max_classes: int) -> str:
    """The text of `MultilabelEvaluation.to_text`; ends without a newline."""
    return "\n\n".join(part for part in (_metrics(evaluation), _classes(evaluation, max_classes)) if part)


def _metrics(evaluation: MultilabelEvaluation) -> str:
    pictures = "picture" if evaluation.n == 1 else "pictures"
    have, answered = evaluation.labels_per_picture
    lines = [
        f"{evaluation.n} {pictures}, {len(evaluation.classes)} classes, any number of labels each; 95 % intervals",
        f"labels a picture: {have:.2f}, answered: {answered:.2f}; mAP of answers by chance: "
        f"{100 * evaluation.base_rate:.1f} %",
        "",
    ]
    rows = [[LABELS[key], *(nats(e) if key in NUMBERS else percent(e))] for key, e in evaluation.metrics.items()]
    lines += table(rows, "lrl")
    if evaluation.n < FEW:
        lines += ["", f"With fewer than {FEW} pictures the intervals of means are too narrow."]
    if evaluation.grouped:
        lines += ["", GROUPED]
    return "\n".join(lines)


def _classes(evaluation: MultilabelEvaluation, max_classes: int) -> str:
    results = evaluation.per_class
    values = [result.average_precision.value if result.average_precision else np.inf for result in results]
    shown = sorted(sorted(range(len(results)), key=values.__getitem__)[:max_classes])
    if not shown:
        return ""
    header = ["class", "pictures", "AP", "", "threshold", "precision", "", "recall", "", "F1", ""]
    lines = table([header, *(_row(results[i]) for i in shown)], "lrrlrrlrlrl")
    if hidden := len(results) - len(shown):
        lines += ["", f"The {len(shown)} classes with the lowest average precision; {hidden} more are not shown."]
    return "\n".join(lines)


def _row(result: LabelResult) -> list[str]:
    cells = [clean(result.name), str(result.support)]
    cells += percent(result.average_precision) if result.average_precision else ("–", "")
    cells.append(f"{result.threshold:.3f}")
    for estimate in (result.precision, result.recall, result.f1):
        cells += percent(estimate) if estimate else ("–", "")
    return cells
