"""The graph answers as the network does, alone in one file; a wrong one is found and refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn import functional as F

from resight.errors import ParityError, RunError, StorageError
from resight.exporting.onnx import INPUT, OUTPUTS, Answering, export_onnx
from resight.exporting.seal import check_parity, write_model
from resight.images import Geometry
from resight.inference import Predictor
from resight.models import ResNet, create
from resight.runs import ONNX, WEIGHTS, Architecture, Run, RunCard

SIZE, TEMPERATURE = 28, 1.7
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


def network(channels: int = 3) -> ResNet:
    """Random weights, and norm statistics that are not those of a fresh network."""
    torch.manual_seed(3)
    net = create("resnet20", num_classes=4, in_channels=channels, stem="tiny")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    with torch.no_grad():
        net.fc.weight *= 0.05  # probabilities away from 0 and 1, where differences would hide
    return net


def pixels(count: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Answering]:
    card = RunCard(
        architecture=Architecture("resnet20", {"stem": "tiny"}),
        classes=("a", "b", "c", "d"),
        channels=3,
        geometry=Geometry("squash", SIZE),
        mean=MEAN,
        std=STD,
        temperature=TEMPERATURE,
    )
    run = Run.create(tmp_path_factory.mktemp("exported") / "run", card)
    answering = write_model(run, network(), TEMPERATURE)
    return run, answering


def answers(path: Path, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: batch}), strict=True))


def test_one_file_checked_with_a_free_batch(exported: tuple[Run, Answering]) -> None:
    run, _ = exported
    assert sorted(os.listdir(run.path)) == sorted([ONNX, WEIGHTS, "run.json"])
    model = onnx.load(run.path / ONNX, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}
    (image,) = model.graph.input
    shape = image.type.tensor_type.shape.dim
    assert (image.name, image.type.tensor_type.elem_type) == (INPUT, onnx.TensorProto.UINT8)
    assert shape[0].dim_param
    assert [d.dim_value for d in shape[1:]] == [SIZE, SIZE, 3]
    assert tuple(output.name for output in model.graph.output) == OUTPUTS
    assert all(output.type.tensor_type.shape.dim[0].dim_param for output in model.graph.output)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_graph_does_everything_from_pixels_to_probabilities(count: int, exported: tuple[Run, Answering]) -> None:
    """Against the network itself, with normalisation, temperature and softmax written out here."""
    run, _ = exported
    batch = pixels(count)
    ours = answers(run.path / ONNX, batch)
    images = torch.from_numpy((batch / 255 - MEAN) / STD).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        theirs = network().eval().features(images)
    for name in ("logits", "embedding", "features"):
        np.testing.assert_allclose(ours[name], theirs[name].numpy(), rtol=1e-4, atol=1e-4)
    expected = F.softmax(theirs["logits"].double() / TEMPERATURE, dim=1)
    np.testing.assert_allclose(ours["probabilities"], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours["features"].mean(axis=(2, 3)), ours["embedding"], rtol=1e-4, atol=1e-5)


def test_a_picture_is_answered_alike_in_any_batch(exported: tuple[Run, Answering]) -> None:
    batch = pixels(5)
    together = answers(exported[0].path / ONNX, batch)["probabilities"]
    for picture, row in zip(batch, together, strict=True):
        alone = answers(exported[0].path / ONNX, picture[None])["probabilities"][0]
        np.testing.assert_allclose(alone, row, atol=1e-6)


def test_the_weights_are_the_networks_under_their_own_names(exported: tuple[Run, Answering]) -> None:
    from safetensors.torch import load_file

    state = network().state_dict()
    saved = load_file(exported[0].path / WEIGHTS)
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in state)


def test_parity_passes_for_the_graph_as_it_is(exported: tuple[Run, Answering]) -> None:
    run, answering = exported
    parity = check_parity(answering, Predictor(run), pixels(70))
    assert parity.passed
    assert (parity.n, parity.top1_agreement) == (70, 1.0)
    assert parity.max_abs < 1e-5


def nudge_constant(value: float, by: float) -> Callable[[onnx.ModelProto], int]:
    """Changes every constant that holds ``value`` (up to rounding); returns how many there were."""

    def change(model: onnx.ModelProto) -> int:
        changed = 0
        attributes = [a for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
        for tensor in [*model.graph.initializer, *(a.t for a in attributes)]:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and np.isclose(array, value, rtol=1e-6).any():
                new = np.where(np.isclose(array, value, rtol=1e-6), array + by, array).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
                changed += 1
        return changed

    return change


def nudge_head(model: onnx.ModelProto) -> int:
    (head,) = (t for t in model.graph.initializer if t.name.endswith("fc.bias"))
    array = numpy_helper.to_array(head).copy()
    array[0] += 0.01
    head.CopyFrom(numpy_helper.from_array(array, head.name))
    return 1


WRONG: dict[str, Callable[[onnx.ModelProto], int]] = {
    "another mean": nudge_constant(MEAN[0] * 255, 2.0),
    "another deviation": nudge_constant(STD[1] * 255, 2.0),
    "another weight": nudge_head,
}


@pytest.mark.parametrize("kind", WRONG)
def test_parity_refuses_a_wrong_graph(kind: str, exported: tuple[Run, Answering], tmp_path: Path) -> None:
    run, answering = exported
    model = onnx.load(run.path / ONNX)
    assert WRONG[kind](model) >= 1
    wrong = Run.create(tmp_path / "run", run.card)
    onnx.save(model, wrong.path / ONNX)
    with pytest.raises(ParityError, match="largest difference"):
        check_parity(answering, Predictor(wrong), pixels(70))


def test_another_temperature_is_refused_before_that(exported: tuple[Run, Answering], tmp_path: Path) -> None:
    model = onnx.load(exported[0].path / ONNX)
    assert nudge_constant(TEMPERATURE, 0.05)(model) == 1
    wrong = Run.create(tmp_path / "run", exported[0].card)
    onnx.save(model, wrong.path / ONNX)
    with pytest.raises(RunError, match="temperature"):
        Predictor(wrong)


def test_parity_refuses_no_numbers(exported: tuple[Run, Answering], monkeypatch: pytest.MonkeyPatch) -> None:
    run, answering = exported
    predictor = Predictor(run)
    real = predictor.run_pixels(pixels(3))
    real.probabilities[1] = np.nan
    monkeypatch.setattr(predictor, "run_pixels", lambda _: real)
    with pytest.raises(ParityError):
        check_parity(answering, predictor, pixels(3))


def test_an_export_that_cannot_be_written_leaves_the_old_file(
    exported: tuple[Run, Answering], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ONNX).write_bytes(b"old")
    answering = exported[1]

    class Program:
        model_proto = onnx.load(exported[0].path / ONNX)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        export_onnx(answering, SIZE, tmp_path / ONNX)
    assert (tmp_path / ONNX).read_bytes() == b"old"
    assert os.listdir(tmp_path) == [ONNX]


def test_one_channel(tmp_path: Path) -> None:
    answering = Answering(network(1), [0.3], [0.2], 1.0)
    export_onnx(answering, SIZE, tmp_path / ONNX)
    batch = pixels(3, channels=1)
    with torch.inference_mode():
        theirs = answering(torch.from_numpy(batch))[0].numpy()
    np.testing.assert_allclose(answers(tmp_path / ONNX, batch)["probabilities"], theirs, atol=1e-5)
