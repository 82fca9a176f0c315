"""Labels that a trained network contradicts: confident learning (Northcutt, Jiang and Chuang 2021, section 3.1).

The Run's answers on validation and test are used, which training did not learn from; of a cross-validation those out of
fold, which are of every picture. Class j's threshold is the mean
probability of j over the pictures labelled j. A picture is a suspect where, among the classes whose threshold its
probability reaches, the most probable is not its label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.doctor.finding import Finding, Item
from resight.errors import DataError, UsageError
from resight.evaluation import softmax
from resight.images import printable
from resight.runs import CrossValidation, Run, out_of_fold, stored
from resight.samples import SampleSet


def find(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, K) probabilities and N labels → (N,) the class each picture confidently is, −1 where that is none.

    A picture is a suspect where this is neither −1 nor its label. Classes without a labelled picture suggest nothing.
    """
    own = np.zeros(probabilities.shape[1])
    np.add.at(own, labels, probabilities[np.arange(len(labels)), labels])
    sizes = np.bincount(labels, minlength=probabilities.shape[1])
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1)
    best: NDArray[np.int64] = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, -1)


def findings(samples: SampleSet, run: Run | CrossValidation) -> list[Finding]:
    """Suspects among the pictures of ``samples`` that are in the Run's validation and test parts, by name and label; of
    a cross-validation among all that it answered out of fold.

    Raises DataError when none of them is, RunError for a Run without predictions.
    """
    if samples.task == "multi" or (isinstance(run, Run) and run.card.task == "multi"):
        raise UsageError(
            "labels that a Run contradicts are found for pictures with one label each; these have any number",
            hint="leave --run out; the most confident mistakes are on the Run's report page",
        )
    if isinstance(run, CrossValidation):
        parts = [out_of_fold(run.runs)[0]]
    else:
        parts = [part for part in (stored(run, "val"), stored(run, "test")) if part is not None]
    here = {(sample.source, sample.index, samples.classes[sample.label]): k for k, sample in enumerate(samples.samples)}
    suspects, asked, absent = [], 0, 0
    for part in parts:
        probabilities = softmax(part.logits)
        confident = find(probabilities, part.labels)
        for k, row in enumerate(part.rows):
            position = here.get((row.source, row.index, row.label))
            asked, absent = asked + (position is not None), absent + (position is None)
            given, suggested = int(part.labels[k]), int(confident[k])
            if position is not None and suggested not in (-1, given):
                margin = float(probabilities[k, suggested] - probabilities[k, given])
                suspects.append((margin, position, suggested))
    if not asked:
        raise DataError(
            f"none of the pictures that {printable(str(run.path))} was validated or tested with is in this data set",
            hint="give the data set that the Run was trained with",
        )
    if not suspects:
        return []
    suspects.sort(key=lambda found: -found[0])
    missing = (f"{absent:,} pictures of the Run are not in this data set, or under another label",) if absent else ()
    return [Finding(
        "suspects", "warning", f"labels that the network contradicts ({len(suspects):,} of {asked:,} asked)",
        "some are wrong labels, which make scores too low and teach mistakes; others are the network's own mistakes",
        "look at each, the surest first; correct the label, or leave it",
        items=tuple(Item((position,), f"perhaps {printable(run.classes[suggested])}, by {100 * margin:.0f} points")
                    for margin, position, suggested in suspects),
        texts=missing,
    )]  # fmt: skip
