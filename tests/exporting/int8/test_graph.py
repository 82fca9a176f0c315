"""Names of layers, and a temperature that can be replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.exporting.int8.small import LAYERS, answer, centred, fragile_graph, graph, pictures
from tests.inference import tiny

from resight.errors import RunError
from resight.evaluation import softmax
from resight.exporting.int8.graph import Layer, blocks_of, layers_of, prepared, with_temperature


def test_layers_have_the_networks_names() -> None:
    model = prepared(graph().SerializeToString(), 1.0)
    assert tuple(layer.name for layer in layers_of(model, plain=False)) == LAYERS
    everything = layers_of(model, plain=True)
    assert [layer.name for layer in everything] == [*LAYERS[:3], "layer1.0.add", "layer1.0.pool", "fc"]
    assert [layer.name for layer in everything if layer.addition] == ["layer1.0.add"]
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_blocks_hold_all_nodes_of_their_layers() -> None:
    layers = (Layer("conv1", ("a",)), Layer("layer1.0.conv1", ("b",)), Layer("layer1.0.add", ("c",), True))
    assert blocks_of(layers) == (Layer("conv1", ("a",)), Layer("layer1.0", ("b", "c")))


@pytest.mark.parametrize("divided", [True, False])
def test_the_temperature_is_replaced_and_nothing_else(tmp_path: Path, divided: bool) -> None:
    plain = graph()
    if not divided:  # a temperature of 1 may be left out by an exporter
        (divide,) = (node for node in plain.graph.node if node.output[0] == "divided")
        plain.graph.node.remove(divide)
        plain.graph.node[-1].input[0] = "logits"
    pixels = pictures(5)
    model = with_temperature(prepared(plain.SerializeToString(), 1.0), 3.0)
    onnx.checker.check_model(model, full_check=True)
    logits, probabilities, features = answer(model, tmp_path, pixels, "logits", "probabilities", "features")
    before, old = answer(plain, tmp_path, pixels, "logits", "features")
    assert np.array_equal(logits, before)
    assert np.array_equal(features, old)
    np.testing.assert_allclose(probabilities, softmax(logits.astype(np.float64) / 3), atol=1e-6)


def test_an_end_that_is_not_known_is_refused() -> None:
    model = tiny.graph()
    model.graph.node[-1].op_type = "Identity"
    model.graph.node[-1].ClearField("attribute")
    with pytest.raises(RunError, match="softmax or sigmoid"):
        prepared(model.SerializeToString(), 1.0)


def test_the_fragile_network_is_the_same_function(tmp_path: Path) -> None:
    bias, pixels = centred(tmp_path), pictures(50)
    (one,), (other,) = (answer(model, tmp_path, pixels, "logits") for model in (graph(bias), fragile_graph(bias)))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
