"""The last step of a pretraining: weights without a head, the graph of embeddings, the page, the seal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from resight.errors import ParityError
from resight.exporting.onnx import Describing, export_onnx
from resight.exporting.seal import write_reference
from resight.inference import Predictor
from resight.models import ResNet
from resight.models.files import METADATA
from resight.reporting.pretraining_page import write_pretraining
from resight.runs import ONNX, REPORT, WEIGHTS, Run
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training.spent import settle

Floats = np.ndarray
_PARITY_PICTURES = 200
_TOLERANCE = 1e-4
"""Of a number of an embedding, as a part of the embedding's length."""


def seal_pretrained(
    run: Run, net: ResNet, samples: SampleSet, history: Sequence[Mapping[str, Any]], say: Callable[[str], None]
) -> None:
    """Makes a pretrained Run complete and immutable. net: without a last layer. samples: labels play no part."""
    describing = write_features(run, net)
    predictor = Predictor(run, backend="onnxruntime", embeds=True)
    bare = samples.unlabelled()
    worst, count = check_embeddings(describing, predictor, bare)
    say(f"model.onnx describes as the network does: within {worst:.1g} of an embedding's length on {count} pictures")
    run.update(parity={"pictures": count, "max_relative": worst})
    write_reference(run, predictor, bare, say)
    write_pretraining(run.path / REPORT, run, predictor, samples, history)
    settle(run, say)
    run.seal()


def write_features(run: Run, net: ResNet) -> Describing:
    """``model.safetensors``, under torchvision's names without ``fc``, and ``model.onnx``."""
    net = net.cpu().eval()
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    architecture = run.card.architecture
    about = {"architecture": architecture.name, "options": architecture.options, "task": run.card.task}
    write_atomic(run.path / WEIGHTS, save(tensors, metadata={METADATA: json.dumps(about)}))
    describing = Describing(net, run.card.mean, run.card.std)
    export_onnx(describing, run.card.geometry.size, run.path / ONNX)
    return describing


@torch.inference_mode()
def check_embeddings(describing: Describing, predictor: Predictor, samples: SampleSet) -> tuple[float, int]:
    """PyTorch against ONNX on validation pictures: the largest difference of a number, as a part of its embedding's
    length, and of how many pictures. Raises ParityError where they disagree.
    """
    card, checked = predictor.run.card, samples.part("val")[:_PARITY_PICTURES]
    geometry = card.geometry
    pixels = np.stack([geometry.apply(samples.read(one, card.channels, geometry=geometry)) for one in checked])
    parts = np.array_split(pixels, -(-len(pixels) // 32))
    ours = np.concatenate([describing(torch.from_numpy(part))[0].numpy() for part in parts])
    (theirs,) = predictor.ask(pixels, ("embedding",))
    lengths = np.maximum(np.linalg.norm(ours, axis=1, keepdims=True), 1e-12)
    worst = float((np.abs(ours - theirs) / lengths).max())
    if not worst <= _TOLERANCE:
        raise ParityError(
            f"model.onnx describes pictures differently from the network: by {worst:.2g} of an embedding's length",
            hint="this is a defect of the export: please report it with the Run's environment",
        )
    return worst, len(pixels)
