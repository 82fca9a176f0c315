"""The last step of every training: calibrate, export, check parity, evaluate on test, learn what is unknown, seal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from resight.errors import ParityError
from resight.evaluation import Estimate, Parity, compare, evaluate, softmax
from resight.evaluation.multilabel import evaluate_multilabel
from resight.exporting.calibrate import calibrate
from resight.exporting.onnx import Answering, export_onnx
from resight.exporting.references import compared, how_well_known, reference_of
from resight.images import tiles_of
from resight.inference import Answers, Predictor
from resight.inference.pooling import Pool
from resight.inference.predictor import BATCH
from resight.inference.unknown import NEIGHBOURS, Unknowns, describe, share_unknown
from resight.models import ResNet
from resight.models.files import METADATA
from resight.reporting import Answered, MultilabelAnswered, write_any_report
from resight.runs import ONNX, PREDICTIONS, REFERENCE, REPORT, WEIGHTS, Run
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training.spent import settle

Pixels = np.ndarray
_PARITY_PICTURES = 1000
_PARITY_BAGS = 32  # hundreds of tiles each
_TILES = 48  # at a time: not the number that the Predictor takes, which must not matter


def write_model(run: Run, net: ResNet, temperature: float) -> Answering:
    """``model.safetensors`` and ``model.onnx`` of a network; returns the graph's twin in PyTorch."""
    net = net.cpu().eval()
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    about = {
        "architecture": run.card.architecture.name,
        "options": run.card.architecture.options,
        "classes": run.classes,
    }
    if run.card.task != "single":
        about["task"] = run.card.task
    write_atomic(run.path / WEIGHTS, save(tensors, metadata={METADATA: json.dumps(about)}))
    answering = Answering(net, run.card.mean, run.card.std, temperature, run.card.task)
    export_onnx(answering, run.card.geometry.size, run.path / ONNX)
    return answering


@torch.inference_mode()
def check_parity(answering: Answering, predictor: Predictor, pixels: Pixels) -> Parity:
    """PyTorch against ONNX on uint8 pictures (N, S, S, C). Raises ParityError where they disagree."""
    ours = [answering(torch.from_numpy(part))[0].numpy() for part in np.array_split(pixels, -(-len(pixels) // BATCH))]
    return _agree(np.concatenate(ours), predictor.run_pixels(pixels).probabilities)


@torch.inference_mode()
def check_bags(answering: Answering, predictor: Predictor, pictures: Iterable[Pixels]) -> Parity:
    """The same for pictures, uint8 (H, W, C), that are cut into tiles: whole answers are compared, each pooled by its
    own side.
    """
    assert predictor.tiled is not None
    ours, theirs = [], []
    for picture in pictures:
        pool = Pool()
        for _, tiles in tiles_of(predictor.card.geometry, picture, _TILES):
            _, logits, _, _, attention = (values.numpy() for values in answering(torch.from_numpy(tiles)))
            pool.add(attention, logits)
        ours.append(softmax(pool.result()[0][None] / answering.temperature)[0])
        theirs.append(predictor.tiled.answer(picture, ("probabilities",))[0])
    return _agree(np.stack(ours), np.stack(theirs))


def _agree(ours: np.ndarray, theirs: np.ndarray) -> Parity:
    parity = compare(ours, theirs)
    if not parity.passed:
        raise ParityError(
            f"model.onnx answers differently from the network: largest difference {parity.max_abs:.2g} in "
            f"probability, same answer on {parity.top1_agreement:.2%} of {parity.n} pictures",
            hint="this is a defect of the export: please report it with the Run's environment",
        )
    return parity


def seal(run: Run, net: ResNet, samples: SampleSet, val_logits: np.ndarray, say: Callable[[str], None]) -> None:
    """Makes a trained Run complete and immutable. ``val_logits``: the network's on the validation part, (N, K)."""
    fitted = calibrate(run, val_logits, samples.targets(samples.part("val")), say)
    temperature = fitted["temperature"]
    answering = write_model(run, net, temperature)
    run.update(calibrated=True, **fitted)
    predictor = Predictor(run, backend="onnxruntime")  # what is sealed does not depend on what is installed
    checked = samples.part("val")[:_PARITY_PICTURES]
    geometry, channels = run.card.geometry, run.card.channels
    if geometry.kind == "tiles":
        wholes = (samples.read(sample, channels, geometry=geometry) for sample in checked[:_PARITY_BAGS])
        parity = check_bags(answering, predictor, wholes)
    else:
        pixels = np.stack([geometry.apply(samples.read(sample, channels, geometry=geometry)) for sample in checked])
        parity = check_parity(answering, predictor, pixels)
    say(f"model.onnx answers as the network does: |Δp| ≤ {parity.max_abs:.1g} on {parity.n} validation pictures")
    predictor.unknowns = write_reference(run, predictor, samples, say)
    metrics: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for part in ("val", "test"):
        if samples.part(part):
            answers, truth = predictor.answers_of(samples, part)
            logits, indices = answers.logits, answers.indices
            unknown = share_unknown(predictor.unknowns, answers)
            shown = _answered(run, samples, part, answers, truth, unknown)
            metrics[part] = shown.evaluation.to_dict()
            arrays |= {f"{part}_logits": logits, f"{part}_labels": truth, f"{part}_indices": indices}
    _write_arrays(run, arrays)
    run.update(metrics=metrics, parity=parity_dict(parity))
    write_any_report(run.path / REPORT, shown, predictor)  # of the test part, or of validation where there is none
    settle(run, say)
    run.seal()


def _answered(
    run: Run, samples: SampleSet, part: str, answers: Answers, truth: np.ndarray, unknown: Estimate | None
) -> Answered | MultilabelAnswered:
    """The evaluation of a part of the Run's own data, with what its page is made of."""
    logits, indices, name = answers.logits, answers.indices, samples.root.name
    groups = [samples.samples[i].group for i in indices]
    if run.card.task == "multi":
        thresholds = [threshold.value for threshold in run.card.thresholds]
        several = evaluate_multilabel(
            logits, truth, run.classes, thresholds, temperature=run.card.temperature, groups=groups
        )
        return MultilabelAnswered(run, samples, name, part, True, indices, truth, logits, several, unknown=unknown)
    found = evaluate(logits, truth, run.classes, temperature=run.card.temperature, groups=groups)
    return Answered(run, samples, name, part, True, indices, truth, logits, found, unknown=unknown)


def write_reference(run: Run, predictor: Predictor, samples: SampleSet, say: Callable[[str], None]) -> Unknowns | None:
    """``reference.safetensors`` of some training pictures, and the card's ``unknown`` from validation; returns it.

    Both go through ``model.onnx`` and the Run's geometry. Besides validation that is at most 4,096 pictures: never
    longer than answering the training part once.
    """
    val = [i for i, sample in enumerate(samples.samples) if sample.split == "val"]
    known = predictor.embeddings(samples, val)
    chosen = compared(samples, known.shape[1], run.card.seed)
    reference = reference_of(samples, chosen, predictor.embeddings(samples, chosen))
    write_atomic(run.path / REFERENCE, reference.to_bytes())
    scorer = reference.scorer(NEIGHBOURS)
    unknown = describe(scorer(known), len(chosen))
    run.update(unknown=unknown)
    if not unknown:
        say(
            f"unknown: {len(val)} validation pictures are too few for a threshold (19 are needed), so none is called so"
        )
        return None
    say(f"unknown: less like {len(chosen):,} training pictures than 95 % of validation; {how_well_known(unknown)}")
    return Unknowns(unknown["score"], unknown["threshold"], scorer)


def parity_dict(parity: Parity) -> dict[str, Any]:
    return {
        "pictures": parity.n,
        "top1_agreement": parity.top1_agreement,
        "max_abs": parity.max_abs,
        "mean_abs": parity.mean_abs,
    }


def _write_arrays(run: Run, arrays: dict[str, np.ndarray]) -> None:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(run.path / PREDICTIONS, buffer.getvalue())
