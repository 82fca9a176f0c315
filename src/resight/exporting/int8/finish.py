"""From the candidate that was chosen to an artefact: its own temperature, thresholds, 'unknown' and metrics."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ParityError
from resight.evaluation import compare, evaluate
from resight.evaluation.multilabel import evaluate_multilabel
from resight.exporting.about import about, check_said
from resight.exporting.calibrate import calibrate
from resight.exporting.int8.graph import described, with_temperature
from resight.exporting.int8.loss import answers, loss_of
from resight.exporting.int8.pictures import positions
from resight.exporting.int8.search import Candidate
from resight.exporting.int8.targets import Target, Workshop
from resight.exporting.squares import squares
from resight.inference import read_reference
from resight.inference.backend import Backend, Floats, Pixels
from resight.inference.pipeline import batched
from resight.inference.tasks import FORMULAS, probabilities_of
from resight.inference.unknown import NEIGHBOURS, describe
from resight.runs import Artifact, ArtifactCard, Run, RunCard, publish
from resight.runs.storage import storage_errors
from resight.samples import SampleSet

_ASKED = ("logits", "embedding")
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation part: squares uint8 (N, S, S, C), what is to be answered, and fp32's logits (N, K)."""

    pixels: Pixels
    truth: NDArray[Any]
    indices: Sequence[int]
    fp32: Floats


def finish(
    run: Run,
    draft: Path,
    samples: SampleSet,
    workshop: Workshop,
    chosen: Candidate,
    validation: Validation,
    quantization: dict[str, Any],
    say: Callable[[str], None],
) -> Artifact:
    """Fits on validation what is fitted there, bakes the temperature in, evaluates, and puts the artefact in place.

    draft: the empty folder of ``drafted`` for the target's artefact.

    Raises ParityError where the finished files do not answer as the candidate did, StorageError.
    """
    target = workshop.target
    fitted = calibrate(run, chosen.logits, validation.truth, say)
    run_card = replace(run.card, **fitted)
    files = target.files(described(with_temperature(chosen.model, fitted["temperature"]), about(run_card)))
    backend = workshop.open(files)
    logits, embedding, probabilities = answers(backend, validation.pixels, (*_ASKED, "probabilities"))
    _check(run_card, chosen, logits, probabilities)
    unknown = _unknown(run, embedding)
    metrics = {"val": _metrics(run_card, samples, validation.indices, logits)}
    if test := positions(samples, "test"):
        metrics["test"] = _metrics(run_card, samples, test, _logits(run, samples, test, backend, workshop.threads))
    card = replace(
        ArtifactCard.of(
            run, target.artifact, target=_to(target), precision="int8", backend=target.runtime, graph=target.graph
        ),
        temperature=fitted["temperature"],
        thresholds=fitted.get("thresholds", ()),
        unknown=unknown,
        parity=_parity(run, validation, logits, probabilities),
        metrics=metrics,
        quantization=quantization,
        environment=_environment(target),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with storage_errors(draft):
        for name, data in files.items():
            (draft / name).write_bytes(data)
        check_said(run_card, target.said(draft / target.graph), target.artifact)
    return publish(run, draft, card)


def _check(card: RunCard, chosen: Candidate, logits: Floats, probabilities: Floats) -> None:
    moved = float(np.abs(logits - chosen.logits).max())
    wrong = float(np.abs(probabilities_of(card, logits) - probabilities).max())
    if moved > 1e-3 * max(float(np.abs(logits).max()), 1.0) or wrong > 1e-4:
        raise ParityError(
            f"{chosen.artifact}: with its temperature baked in it answers otherwise: logits by {moved:.2g}, "
            f"probabilities {wrong:.2g} away from {FORMULAS[card.task]}",
            hint="this is a defect of the export: please report it with the Run's environment",
        )


def _unknown(run: Run, embedding: Floats) -> dict[str, Any]:
    """The card's ``unknown``: of int8's validation embeddings against the Run's reference; empty where it has none."""
    if not run.card.unknown:
        return {}
    reference = read_reference(run)
    return describe(reference.scorer(NEIGHBOURS)(embedding), len(reference.bank))


def _metrics(card: RunCard, samples: SampleSet, indices: Sequence[int], logits: Floats) -> dict[str, Any]:
    """As in run.json: of logits before the temperature."""
    own = [samples.samples[i] for i in indices]
    scaled = (logits / card.temperature).astype(np.float32)
    about: dict[str, Any] = {"temperature": card.temperature, "groups": [sample.group for sample in own]}
    if card.task == "multi":
        thresholds = [threshold.value for threshold in card.thresholds]
        return evaluate_multilabel(scaled, samples.targets(own), card.classes, thresholds, **about).to_dict()
    return evaluate(scaled, samples.targets(own), card.classes, **about).to_dict()


def _logits(run: Run, samples: SampleSet, indices: Sequence[int], backend: Backend, threads: int) -> Floats:
    """In bounded memory."""

    def parts() -> Iterator[Floats]:
        for some in batched(squares(run, samples, indices, threads), _AT_ONCE):
            yield from answers(backend, np.stack(some), ("logits",))

    return np.concatenate(list(parts()))


def _parity(run: Run, validation: Validation, logits: Floats, probabilities: Floats) -> dict[str, Any]:
    """How it answers beside model.onnx on validation, each with its own temperature."""
    near = compare(probabilities_of(run.card, validation.fp32), probabilities)
    drop = loss_of(run, validation.fp32, logits, validation.truth).drop
    return {
        "pictures": near.n,
        "top1_agreement": near.top1_agreement,
        "max_abs": near.max_abs,
        "mean_abs": near.mean_abs,
        "lost": asdict(drop),
    }


def _to(target: Target) -> str:
    return "openvino" if target.runtime == "openvino" else "onnx"


def _environment(target: Target) -> dict[str, str]:
    packages = ("resight", "numpy", "pillow", "onnx", "onnxruntime")
    more = ("openvino", "nncf") if target.runtime == "openvino" else ()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in chain(packages, more)},
    }
