"""What an evaluation of any number of labels means, in sentences."""

from __future__ import annotations

from resight.evaluation import Estimate
from resight.evaluation.multilabel import MultilabelEvaluation
from resight.evaluation.text import GROUPED
from resight.reporting.verdict import FEW, FEW_OF_A_CLASS, Sentence, list_names, own_data_cares, percent, unknown_share


def verdict(found: MultilabelEvaluation, part: str, own_data: bool, unknown: Estimate | None) -> list[Sentence]:
    """The most important first; arguments as of `resight.reporting.verdict.verdict`."""
    sentences = [*_ranking(found), *_labels(found), *_weakest(found), _calibration(found)]
    if unknown is not None:
        sentences.append(unknown_share(unknown))
    cares = own_data_cares(part, own_data, "its best epoch, its temperature and its thresholds")
    return sentences + [Sentence(text, careful=True) for text in cares + _small(found)]


def _ranking(found: MultilabelEvaluation) -> list[Sentence]:
    score = found.metrics.get("map")
    if score is None:
        return [Sentence("No class is on some of these pictures and not on others: nothing can be ranked.")]
    return [
        Sentence(
            f"Its mean average precision (mAP) is {percent(score.value)} on {found.n:,} pictures; on others like them "
            f"expect between {percent(score.low)} and {percent(score.high)}. Answers by chance would have "
            f"{percent(found.base_rate)}."
        )
    ]


def _labels(found: MultilabelEvaluation) -> list[Sentence]:
    have, answered = found.labels_per_picture
    text = f"A picture has {have:.2f} labels on average and is answered with {answered:.2f}."
    precision, recall = found.metrics.get("micro_precision"), found.metrics.get("micro_recall")
    if precision and recall:
        text += f" {percent(recall.value)} of the labels are found, {percent(precision.value)} of those given are right"
        text += f"; {percent(found.metrics['subset_accuracy'].value)} of the pictures have all of them right."
    return [Sentence(text)]


def _weakest(found: MultilabelEvaluation) -> list[Sentence]:
    scored = [(r.average_precision, r) for r in found.per_class if r.average_precision is not None]
    if len(scored) < 3:
        return []
    estimate, worst = min(scored, key=lambda pair: pair[0].value)
    if estimate.value == 1:
        return []
    return [
        Sentence(
            f"Its weakest class is {worst.name}: average precision {percent(estimate.value)}, between "
            f"{percent(estimate.low)} and {percent(estimate.high)}; {percent(worst.support / found.n)} of the pictures "
            "have it."
        )
    ]


def _calibration(found: MultilabelEvaluation) -> Sentence:
    error = found.metrics["ece"]
    if error.low == 0:
        return Sentence("Its probabilities can be believed as far as these pictures can tell.")
    return Sentence(f"Its probabilities are off by {percent(error.value)} (calibration error, ECE).")


def _small(found: MultilabelEvaluation) -> list[str]:
    cares = []
    if found.n < FEW:
        cares.append(f"{found.n} pictures are few: every number here is rough.")
    small = [r.name for r in found.per_class if 0 < r.support < FEW_OF_A_CLASS]
    if small:
        cares.append(
            f"Fewer than {FEW_OF_A_CLASS} pictures with {list_names(small)}: numbers of such classes say little."
        )
    if found.grouped:
        cares.append(GROUPED)
    absent = [r.name for r in found.per_class if not r.support]
    if absent:
        cares.append(f"No pictures with {list_names(absent)}: of these, only labels that were invented can be counted.")
    return cares
