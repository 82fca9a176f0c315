"""A graph for pictures of another side is the graph that an export at that side has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from resight.advising.graphs import at_side, speeds
from resight.exporting.onnx import Answering, export_onnx
from resight.inference import open_backend
from resight.models import create


def test_a_graph_at_another_side_answers_as_one_exported_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create("resnet18", num_classes=3, stem="tiny", widths=(8, 8, 8, 8))
    answering = Answering(net, (0.5,) * 3, (0.25,) * 3, 1.0)
    export_onnx(answering, 32, tmp_path / "32.onnx")
    at_side(tmp_path / "32.onnx", 48, tmp_path / "48.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    backend = open_backend("onnxruntime", tmp_path / "48.onnx", 1)
    outputs = ("probabilities", "logits", "embedding", "features")
    with torch.inference_mode():
        expected = answering(torch.from_numpy(pixels))
    for ours, theirs in zip(backend.answer(pixels, outputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
    found = speeds([(tmp_path / "48.onnx", 48)], 3, 1, 2, 0.1)
    assert found[0] is not None
    assert min(found[0]) > 0
