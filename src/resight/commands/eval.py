"""``resight eval``: how good a Run is on labelled pictures. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.against import Against
from resight.commands.against import against as compared
from resight.commands.eval_multilabel import MultilabelEvalResult, check_task, evaluate_labels
from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.own_data import ALL, default_part, learned, load_own, match_classes, parts_of
from resight.commands.predict import resolve_run
from resight.commands.report import write_page
from resight.commands.robustness import Say, asked, check_channels, measure_corruptions, measure_views
from resight.commands.told import paragraphs, plain
from resight.errors import DataError, UsageError
from resight.evaluation import Estimate, Evaluation, evaluate
from resight.evaluation.augmented import Augmented
from resight.evaluation.robustness import Robustness
from resight.images import printable
from resight.inference import AUTO, BATCH, Choice, Predictor, bad_files, check_backend, csv_row, only_single, save
from resight.inference.tiled import only_whole
from resight.inference.unknown import share_unknown
from resight.runs import Run
from resight.samples import SPLITS, SampleSet, load

PARTS = (*SPLITS, ALL)


@dataclass(frozen=True, eq=False)
class EvalResult:
    """An evaluation and what it was made of, picture by picture.

    part: train, val, test, or all. logits: float32 (N, K), divided by the temperature. probabilities:
    float32 (N, K) in 0 … 1. labels: int64 (N,), positions in the Run's classes. sources: N names, exact;
    ``file[index]`` for array files. skipped: (source, reason) of pictures that could not be read. warnings:
    whole sentences. choice: which backend answered, and why. unknown: the share of pictures called unknown, with its
    95 % interval; None where the Run cannot tell. against: another Run on the same pictures. robustness: on corrupted
    pictures; augmented: with test-time augmentation; all three where asked for. artifact: the name of what answered, if
    not model.onnx. routes: int64 (N,), positions in ``route_names``: which graph of an adaptive artefact answered; None
    of anything else. looked: float32 (N, 2), at how many tiles of each picture was looked, of how many; None where it
    is all, or there are none.
    """

    run: Path
    data: Path
    part: str
    evaluation: Evaluation
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    sources: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None
    unknown: Estimate | None = None
    against: Against | None = None
    robustness: Robustness | None = None
    augmented: Augmented | None = None
    artifact: str | None = None
    routes: NDArray[np.int64] | None = None
    route_names: tuple[str, ...] = ()
    looked: NDArray[np.float32] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (N,): positions in the Run's classes."""
        best: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return best

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the arrays."""
        return (
            plain(self)
            | ({"routes": self.route_shares} if self.routes is not None else {})
            | ({"looked": self.looked_share} if self.looked is not None else {})
            | {
                "against": None if self.against is None else self.against.to_dict(),
                "robustness": None if self.robustness is None else self.robustness.to_dict(),
                "tta": None if self.augmented is None else self.augmented.to_dict(),
            }
        )

    def to_text(self) -> str:
        """For a terminal: what was evaluated, warnings, skipped pictures, the tables of the evaluation."""
        more = (self.against, self.robustness, self.augmented)
        shares = [f"{name} {100 * share:.1f} %" for name, share in self.route_shares.items()]
        own = [f"answered by: {', '.join(shares)}"] if shares else []
        if self.looked is not None:
            own.append(f"looked at {100 * self.looked_share:.1f} % of the tiles")
        return "\n\n".join([*paragraphs(self), *own, *(part.to_text() for part in more if part is not None)])

    @property
    def route_shares(self) -> dict[str, float]:
        """Of the pictures, by the name of the graph that answered; empty where there is one."""
        if self.routes is None:
            return {}
        return {name: float((self.routes == k).mean()) for k, name in enumerate(self.route_names)}

    @property
    def looked_share(self) -> float:
        """Of all pictures' tiles, those that were looked at, 0 … 1."""
        return 1.0 if self.looked is None else float(self.looked[:, 0].sum() / self.looked[:, 1].sum())

    def save_predictions(self, path: Path) -> None:
        """Write a CSV file with source, true, predicted, probability (of the predicted class), atomically.

        Its rules are those of :mod:`resight.inference.writers`. Raises StorageError.
        """
        save(self._rows(), path)

    def _rows(self) -> Iterator[str]:
        names = self.evaluation.classes
        yield csv_row(["source", "true", "predicted", "probability"])
        for source, true, predicted, row in zip(
            self.sources, self.labels, self.predicted, self.probabilities, strict=True
        ):
            yield csv_row([source, names[true], names[predicted], float(row[predicted])])


def evaluate_run(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    skip_bad: bool = False,
    predictions: Path | None = None,
    report: Path | None = None,
    against: Run | str | Path | None = None,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
    corruptions: bool | Sequence[str] = False,
    corruption_pictures: int | str | None = None,
    tta: str | None = None,
    say: Say | None = None,
) -> EvalResult | MultilabelEvalResult:
    """Evaluate a Run on labelled pictures; classes are matched by name.

    data: by default the data that the Run was trained with, split as then; else a path, or
    ``torchvision:FashionMNIST`` and the like, which needs PyTorch. part: train, val, test or all; by default test, or
    all where ``data`` is not split; one class, or a test part alone, will do. skip_bad: leave out pictures that
    cannot be read, and count them, where otherwise they are an error. predictions: a CSV file to write, see
    ``EvalResult.save_predictions``. report: a page to write, one self-contained HTML file, never into a Run; needs
    the extra ``report``. artifact: answer with what was exported under this name. against: a second Run, which
    answers the same pictures. corruptions: also answer corrupted pictures, of all kinds or of these;
    corruption_pictures: of so many, or "all"; default 1,000. tta: also average over views, "flip" or "flip+shift".
    say: gets lines of progress. The last four are for Runs that answer with one class a picture; others have a
    MultilabelEvalResult.

    Raises DataError for data with classes that the Run does not know, without the part, changed since
    training, or with bad pictures; UsageError for wrong arguments, RunError for a Run that is missing or
    damaged.
    """
    if part is not None and part not in PARTS:
        raise UsageError(f"the part is {part!r}; expected one of {', '.join(PARTS)}")
    check_backend(backend)
    check_outputs({"--report": report, "--predictions": predictions})
    if report is not None:
        need("a report", "report", "jinja2", "matplotlib")
    extras = asked(corruptions, corruption_pictures, tta)
    opened = resolve_run(run)
    other = None if against is None else resolve_run(against)
    for wish, there in (("--against", other), ("--corruptions", extras.kinds), ("--tta", extras.views)):
        if there:
            only_single(opened, wish)
    for wish, there in (("--corruptions", extras.kinds), ("--tta", extras.views)):
        if there:
            only_whole(opened, wish)
    if other is not None:
        only_single(other, "--against")
    check_channels(opened, extras)
    data = None if data is None else _path_of(data)
    samples = load_own(opened) if data is None else load(data, val_fraction=0, test_fraction=0, training=False)
    check_task(opened, samples)
    numbers, warnings = match_classes(samples.classes, opened.classes)
    chosen = part or default_part(samples)
    indices = [i for i, sample in enumerate(samples.samples) if chosen in (ALL, sample.split)]
    if not indices:
        raise DataError(f"{printable(str(samples.root))} has no pictures in {chosen}; {parts_of(samples)}")
    if data is None and opened.card.data.get("fingerprint") not in (None, samples.fingerprint()):
        warnings.append("pictures have been replaced since training: they have the same names but other sizes")
    if data is not None:  # of the Run's own data the part says it
        warnings += learned(opened, samples, indices)
    if opened.card.task == "multi":
        given = None if data is None else Path(data)
        outputs: dict[str, Any] = {"predictions": predictions, "report": report, "skip_bad": skip_bad, "data": given}
        how: dict[str, Any] = {"artifact": artifact, "backend": backend, "threads": threads, "batch": batch}
        return evaluate_labels(opened, samples, numbers, indices, chosen, warnings, **outputs, **how)
    predictor = Predictor(
        opened, artifact=artifact, backend=backend, threads=threads, batch=batch, pictures=len(indices)
    )
    found = predictor.answers(samples, indices)
    if found.bad and not skip_bad:
        raise bad_files(found.bad)
    labels = np.array([numbers[samples.samples[i].label] for i in found.indices], np.int64)
    second = None
    groups = [samples.samples[i].group for i in found.indices]
    sources = tuple(samples.samples[i].name for i in found.indices)
    if other is not None:
        answers = found.probabilities.argmax(axis=1)
        ours = sources, [opened.classes[k] for k in labels], [opened.classes[k] for k in answers]
        second = _second(other, samples, found.indices, ours, backend=backend, threads=threads, batch=batch)
    robustness = augmented = None
    if extras.kinds:
        robustness = measure_corruptions(predictor, samples, found, labels, extras, say=say)
    if extras.views:
        augmented = measure_views(predictor, samples, found, labels, extras.views, say=say)
    result = EvalResult(
        run=opened.path,
        data=samples.root if data is None else Path(data),
        part=chosen,
        evaluation=evaluate(
            found.logits, labels, opened.classes, temperature=predictor.card.temperature, groups=groups
        ),
        logits=found.logits,
        probabilities=found.probabilities,
        labels=labels,
        sources=sources,
        skipped=found.bad,
        warnings=(*samples.warnings, *warnings),
        choice=predictor.choice,
        against=second,
        robustness=robustness,
        augmented=augmented,
        unknown=share_unknown(predictor.unknowns, found),
        artifact=artifact,
        routes=None if found.route is None else found.route.astype(np.int64),
        route_names=predictor.routes,
        looked=found.looked,
    )
    if predictions is not None:
        result.save_predictions(predictions)
    if report is not None:
        write_page(report, result, opened, samples, found.indices, predictor, own_data=data is None)
    return result


Names = Sequence[str]


def _second(
    run: Run, samples: SampleSet, indices: NDArray[np.int64], ours: tuple[Names, Names, Names], **how: Any
) -> Against:
    """The second Run on the pictures at ``indices``. Raises DataError for classes that it does not know."""
    _, warnings = match_classes(samples.classes, run.classes)
    warnings += learned(run, samples, indices)
    found = Predictor(run, pictures=len(indices), **how).answers(samples, indices.tolist())
    positions = np.searchsorted(indices, found.indices)  # both in the order of the data
    predicted = [run.classes[k] for k in found.probabilities.argmax(axis=1)]
    return compared(run.path, ours, positions, predicted, warnings)


def _path_of(data: str | Path) -> str | Path:
    """The path of ``data``; one of torchvision's data sets, by name, is downloaded at the first use."""
    if not str(data).startswith("torchvision:"):
        return data
    need("a data set by name", "train", "torch", "torchvision")
    from resight.training.named import data_path

    return data_path(data)
