"""The scan for data outside of a graph, against graphs that the onnx package makes."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from resight.inference import external as scan
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


def field(number: int, content: bytes, kind: int = 2) -> bytes:
    """One field of protobuf, by hand; ``content`` of up to 16 383 bytes."""
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) if kind == 2 else b""
    return bytes([number << 3 | kind]) + length + content


def in_a_tensor(content: bytes) -> bytes:
    """A graph that works, with one more initializer of this content."""
    return PLAIN + field(7, field(5, content))


LOCATION = field(13, field(1, b"location") + field(2, b"weights.bin"))
SWALLOWED = bytes([len(LOCATION) & 0x7F | 0x80, len(LOCATION) >> 7])

# the tensor's bytes; protobuf's reader sees a name of a file in all of them
HIDDEN = {
    "data_location as fixed32, whose bytes look like raw_data around the rest": b"\x75\x00\x4a" + SWALLOWED + LOCATION,
    "data_location as fixed64, likewise": b"\x71\x00\x4a" + SWALLOWED[:1] + b"\x80\x80\x80\x80\x00" + LOCATION,
    "a tag of 33 bits, which protobuf cuts to field 13": b"\xea\x80\x80\x80\x10" + LOCATION[1:],
    "data_location with a length": field(14, b"\x01") + LOCATION,
}


@pytest.mark.parametrize("case", HIDDEN)
def test_it_cannot_be_hidden_in_a_form_that_protobuf_reads_otherwise(case: str) -> None:
    data = in_a_tensor(HIDDEN[case])
    with suppress(DecodeError):  # a tag of 33 bits is cut by protobuf's C++ reader, and refused by that of Python
        tensor = onnx.ModelProto.FromString(data).graph.initializer[-1]
        assert [entry.value for entry in tensor.external_data] == ["weights.bin"]
    with pytest.raises(ValueError, match=r"another kind|does not have"):
        has_external_data(data)


@pytest.mark.parametrize("case", HIDDEN)
def test_the_second_look_finds_what_the_first_would_miss(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_in_a_tensor", lambda data: False)
    assert has_external_data(in_a_tensor(HIDDEN[case]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\x0a\x08location", True),
        (b"\x0a\x88\x00location", True),
        (b"\x0a\x88\x80\x80\x80\x00location", True),
        (b"\x08location", True),
        (b"location", False),
        (b"\x0a\x09location2", False),
        (b"\x0a\x0drelocation in", False),
        (b"\x00location", False),
        (b"relocation\x0a\x08location", True),
    ],
)
def test_the_second_look_is_for_a_text_that_is_exactly_the_word(text: bytes, expected: bool) -> None:
    assert scan._named_anywhere(text) is expected
    assert scan._named_anywhere(b"\xff" * 100 + text + b"\xff") is expected


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (field(7, b"\x00\x00\x00\x00", kind=5), "another kind"),  # the graph as four bytes
        (field(7, field(5, b"\x00" * 8, kind=1)), "another kind"),  # a tensor as eight
        (field(7, field(1, b"\x00", kind=0)), "another kind"),  # a node as a number
        (b"\x02\x00", "does not have"),  # field 0
        (b"\xba\x80\x80\x80\x80\x00\x00", "never ends"),  # a tag of six bytes
        (b"\x3a\x80\x80\x80\x80\x80\x00", "never ends"),  # a length of six
        (b"\x3a\xff\xff\xff\xff\x7f", "ends early"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        has_external_data(data)


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
    with pytest.raises(ValueError, match=r"ends|kind|does not have"):
        has_external_data(data)
