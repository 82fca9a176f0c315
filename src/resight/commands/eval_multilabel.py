"""``resight eval`` of a Run that answers with any number of labels. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.told import paragraphs, plain
from resight.errors import DataError
from resight.evaluation import Estimate
from resight.evaluation.multilabel import MultilabelEvaluation, evaluate_multilabel, given
from resight.images import printable
from resight.inference import Choice, Predictor, bad_files, csv_row, save
from resight.inference.unknown import share_unknown
from resight.runs import Run
from resight.samples import SampleSet
from resight.samples.cells import join


@dataclass(frozen=True, eq=False)
class MultilabelEvalResult:
    """An evaluation and what it was made of, picture by picture.

    part: train, val, test, or all. logits: float32 (N, K), divided by the temperature. probabilities: float32 (N, K) in
    0 … 1. targets: uint8 (N, K). K are the classes of ``evaluation``: those of the Run, in its order, except where a
    table with a column for each class has no column for some. The rest as in ``EvalResult``.
    """

    run: Path
    data: Path
    part: str
    evaluation: MultilabelEvaluation
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    targets: NDArray[np.uint8]
    sources: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None
    unknown: Estimate | None = None
    artifact: str | None = None

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """bool (N, K): the labels that were given."""
        return given(self.probabilities, [result.threshold for result in self.evaluation.per_class])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the arrays."""
        return plain(self)

    def to_text(self) -> str:
        """For a terminal: what was evaluated, warnings, skipped pictures, the tables of the evaluation."""
        return "\n\n".join(paragraphs(self))

    def save_predictions(self, path: Path) -> None:
        """Write a CSV file, atomically: source, true and predicted (names as in a table of data), then the probability
        of every class, in a column ``p NAME``. Raises StorageError.
        """
        save(self._rows(), path)

    def _rows(self) -> Iterator[str]:
        names = self.evaluation.classes
        yield csv_row(["source", "true", "predicted", *(f"p {name}" for name in names)])
        for source, true, chosen, row in zip(
            self.sources, self.targets, self.predicted, self.probabilities, strict=True
        ):
            cells = [join(names[k] for k in np.flatnonzero(labels)) for labels in (true, chosen)]
            yield csv_row([source, *cells, *map(float, row)])


def check_task(run: Run, samples: SampleSet) -> None:
    """Raises DataError where the Run and the data differ in how many labels a picture has."""
    if run.card.task != samples.task:
        kinds = {"single": "one label each", "multi": "any number of labels"}
        raise DataError(
            f"{printable(str(samples.root))} has pictures with {kinds[samples.task]}, {printable(str(run.path))} "
            f"answers for {kinds[run.card.task]}",
            hint="a table with the column labels has any number of them, everything else one each: see docs/data.md",
        )


def _known(run: Run, samples: SampleSet, numbers: list[int]) -> tuple[list[int], list[str]]:
    """The classes of the Run that are evaluated, by position, and what to say of the others: a table with a column for
    each class says nothing of classes without one; in any other, a label that is not given is not there.
    """
    if len(numbers) == len(run.classes):
        return sorted(numbers), []
    if samples.by_column:
        return sorted(numbers), ["classes that the table has no column for are left out of every number"]
    doubt = "classes that are missing count as absent from every picture: where they are answered, as invented"
    return list(range(len(run.classes))), [doubt]


def evaluate_labels(
    run: Run,
    samples: SampleSet,
    numbers: list[int],
    indices: list[int],
    part: str,
    warnings: list[str],
    *,
    data: Path | None,
    skip_bad: bool,
    predictions: Path | None,
    report: Path | None,
    **how: Any,
) -> MultilabelEvalResult:
    """Evaluate on the pictures at ``indices``, whose classes are at ``numbers`` among the Run's; ``how``: of a
    Predictor. The rest as ``evaluate_run``, whose part for such Runs this is.
    """
    predictor = Predictor(run, pictures=len(indices), **how)
    found = predictor.answers(samples, indices)
    if found.bad and not skip_bad:
        raise bad_files(found.bad)
    places, doubt = _known(run, samples, numbers)
    chosen = [samples.samples[i] for i in found.indices]
    targets = np.zeros((len(chosen), len(run.classes)), np.uint8)
    targets[:, numbers] = samples.targets(chosen)
    targets = targets[:, places]
    logits, probabilities = found.logits[:, places], found.probabilities[:, places]
    evaluation = evaluate_multilabel(
        logits,
        targets,
        [run.classes[k] for k in places],
        [predictor.card.thresholds[k].value for k in places],
        temperature=predictor.card.temperature,
        groups=[sample.group for sample in chosen],
    )
    result = MultilabelEvalResult(
        run=run.path,
        data=samples.root if data is None else data,
        part=part,
        evaluation=evaluation,
        logits=logits,
        probabilities=probabilities,
        targets=targets,
        sources=tuple(sample.name for sample in chosen),
        skipped=found.bad,
        warnings=(*samples.warnings, *warnings, *doubt),
        choice=predictor.choice,
        unknown=share_unknown(predictor.unknowns, found),
        artifact=how.get("artifact"),
    )
    if predictions is not None:
        result.save_predictions(predictions)
    if report is not None:
        from resight.reporting import MultilabelAnswered, write_multilabel_report

        answered = MultilabelAnswered(
            Run(run.path, predictor.card),
            samples,
            result.data.name,
            part,
            data is None,
            found.indices,
            targets,
            logits,
            evaluation,
            result.warnings,
            result.skipped,
            result.unknown,
            predictor.artifact,
        )
        write_multilabel_report(report, answered, predictor)
    return result
