"""The real quantizers on a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exporting.int8.small import answer, centred, graph, pictures

from resight.exporting.int8.graph import layers_of, prepared
from resight.exporting.int8.ir import BIN, XML, to_ir
from resight.exporting.int8.loss import spreads_apart
from resight.exporting.int8.methods import by_nncf, by_onnxruntime, has_vnni, weights_of
from resight.inference import open_backend

Model = Any


def quantized(quantizer: str, model: Model, folder: Path, *, seven_bits: bool = False, keep: Any = ()) -> Model:
    if quantizer == "nncf":
        return by_nncf(model, pictures(60), keep, seven_bits=seven_bits)
    return by_onnxruntime(model, pictures(60), keep, seven_bits=seven_bits, ranges=folder / "ranges.json")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return prepared(graph(centred(tmp_path)).SerializeToString(), 2.0)


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_seven_bits_are_seven(model: Model, tmp_path: Path, quantizer: str) -> None:
    few, many = (quantized(quantizer, model, tmp_path, seven_bits=bits) for bits in (True, False))
    largest = {len(found): max(int(np.abs(w.astype(int)).max()) for w in found.values()) for found in [weights_of(few)]}
    assert largest.keys() == {4}  # all layers with weights
    assert max(largest.values()) in (63, 64)
    assert max(int(np.abs(w.astype(int)).max()) for w in weights_of(many).values()) >= 127


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_weights_have_a_scale_for_each_channel(model: Model, tmp_path: Path, quantizer: str) -> None:
    for name, weights in weights_of(quantized(quantizer, model, tmp_path)).items():
        each = np.abs(weights.astype(int)).reshape(len(weights), -1).max(axis=1)
        assert (each >= 126).all(), name


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_the_same_pictures_give_the_same_bytes(model: Model, tmp_path: Path, quantizer: str) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    one, two = (quantized(quantizer, model, tmp_path / name).SerializeToString() for name in "ab")
    assert one == two


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_what_is_kept_stays_in_fp32(model: Model, tmp_path: Path, quantizer: str) -> None:
    kept = layers_of(model, plain=False)[1]
    found = weights_of(quantized(quantizer, model, tmp_path, keep=kept.nodes))
    assert len(found) == 3
    assert not any("layer1.0.conv1" in name for name in found)


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_the_graph_given_is_not_changed(model: Model, tmp_path: Path, quantizer: str) -> None:
    before = model.SerializeToString()
    quantized(quantizer, model, tmp_path)
    assert model.SerializeToString() == before


def test_the_ir_answers_as_the_graph_that_it_was_made_of(model: Model, tmp_path: Path) -> None:
    """Additions in fp32: OpenVINO may compute quantized ones otherwise."""
    additions = [node for layer in layers_of(model, plain=True) if layer.addition for node in layer.nodes]
    int8 = quantized("nncf", model, tmp_path, keep=additions)
    files = to_ir(int8)
    assert set(files) == {XML, BIN}
    weights = sum(array.size for array in weights_of(int8).values())
    assert len(files[BIN]) < 2 * weights  # bytes: one for each weight, and the scales
    pixels, outputs = pictures(40, seed=3), ("logits", "probabilities", "embedding", "features")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    ours = open_backend("openvino", tmp_path / XML, 1).answer(pixels, outputs)
    theirs = answer(int8, tmp_path, pixels, *outputs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == np.float32
        assert one.shape == other.shape
    assert spreads_apart(theirs[0], ours[0]) < 0.05
    assert spreads_apart(answer(model, tmp_path, pixels, "logits")[0], ours[0]) < 0.1


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx2 avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2 avx512f", False)],
)
def test_vnni_is_read_from_the_processors_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, found: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n", "utf-8")
    assert has_vnni(tmp_path / "cpuinfo") is found
    assert has_vnni(tmp_path / "missing") is None
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert has_vnni(tmp_path / "missing") is True
