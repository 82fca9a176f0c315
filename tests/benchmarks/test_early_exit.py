"""The early exits of ``benchmarks/adaptive.py``: both parts of a network answer as the whole one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.tiny import SIDE

import early_exit
from resight.evaluation import softmax
from resight.exporting.onnx import Answering, export_onnx
from resight.inference import open_backend
from resight.models import create
from resight.transfer.probe import Head


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = create("resnet20", num_classes=3, in_channels=3, stem="tiny").eval()
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(Answering(net, (0.3, 0.3, 0.3), (0.25, 0.25, 0.25), 1.0), SIDE, path)
    return path


@pytest.mark.parametrize(("stage", "grid"), [("layer1", 4), ("layer2", 1)])
def test_what_goes_on_is_answered_as_by_the_whole_network(stage: str, grid: int, graph: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    data, pixels = graph.read_bytes(), random.integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    cut = early_exit.cuts(data)[stage]
    width = {"layer1": 16, "layer2": 32}[stage] * grid * grid
    head = Head(random.normal(size=(3, width)).astype(np.float32), np.zeros(3, np.float32))
    parts = early_exit.EarlyExit(tmp_path, *early_exit.split(data, cut, grid, head), 1)
    (whole,) = open_backend("onnxruntime", graph, 1).answer(pixels, ("logits",))
    embedding = parts.exit(pixels, "embedding")
    assert embedding.shape == (20, width)
    early = parts.exit(pixels)
    np.testing.assert_allclose(early, head.logits(embedding), atol=1e-4)
    parts.temperatures = (1.5, 0.5)
    sure = softmax(early / 1.5).max(axis=1)
    for threshold in (0.0, float(np.median(sure)), 2.0):
        parts.threshold = threshold
        logits, route, chances = parts.answer(pixels, ("logits", "route", "probabilities"))
        np.testing.assert_array_equal(route, sure < threshold)
        expected = np.where(route[:, None] == 1, whole / 0.5, early / 1.5)
        np.testing.assert_allclose(logits, expected, atol=1e-3)
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
        alone = np.concatenate([parts.answer(row[None], ("logits",))[0] for row in pixels])
        np.testing.assert_allclose(alone, logits, atol=1e-4)


def test_a_grid_is_the_mean_of_its_squares(graph: Path, tmp_path: Path) -> None:
    data = graph.read_bytes()
    first, _ = early_exit.split(data, early_exit.cuts(data)["layer1"], 4, None)
    (tmp_path / "first.onnx").write_bytes(first)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    maps, embedding = open_backend("onnxruntime", tmp_path / "first.onnx", 1).answer(pixels, ("features", "embedding"))
    step = maps.shape[2] // 4
    size = maps.shape[2] - 3 * step  # they overlap where the side is no multiple of 4
    starts = range(0, 4 * step, step)
    squares = [[maps[:, :, i : i + size, j : j + size].mean(axis=(2, 3)) for j in starts] for i in starts]
    expected = np.array(squares).transpose(2, 3, 0, 1)
    np.testing.assert_allclose(embedding, expected.reshape(len(pixels), -1), atol=1e-5)
