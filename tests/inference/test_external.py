"""The scan for data outside of a graph, against graphs that the onnx package makes."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from resight.inference.external import has_external_data

from . import tiny

PLAIN = tiny.graph().SerializeToString()


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tensor


def wrapped(tensor: TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor])


def test_a_graph_on_its_own() -> None:
    assert not has_external_data(PLAIN)


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "branches", "sparse", "function", "training"])
def test_it_is_found_wherever_a_tensor_can_be(place: str) -> None:
    model, tensor = tiny.graph(), external()
    nodes = model.graph.node
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "constant":
        nodes.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif place == "branch":
        nodes.append(helper.make_node("If", ["c"], ["d"], then_branch=wrapped(tensor)))
    elif place == "branches":
        nodes.append(helper.make_node("Odd", [], ["d"], graphs=[wrapped(tensor)]))
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif place == "function":
        model.functions.add().node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    else:
        model.training_info.add().algorithm.CopyFrom(wrapped(tensor))
    assert has_external_data(model.SerializeToString())


def test_a_location_alone_and_a_place_alone_are_enough() -> None:
    for field in ("external_data", "data_location"):
        model, tensor = tiny.graph(), external()
        tensor.ClearField(field)  # type: ignore[arg-type]
        model.graph.initializer.append(tensor)
        assert has_external_data(model.SerializeToString())


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_end_in_an_answer_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        has_external_data(data)


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255))
@settings(deadline=None)
def test_a_changed_byte_ends_in_an_answer_or_a_value_error(position: int, value: int) -> None:
    data = bytearray(PLAIN)
    data[position] = value
    with suppress(ValueError):
        has_external_data(bytes(data))


@pytest.mark.parametrize("data", [PLAIN[:-1], b"\x0a", b"\xff" * 20, b"\x0b", b"\x3d\x00"])
def test_damaged_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends|kind"):
        has_external_data(data)
