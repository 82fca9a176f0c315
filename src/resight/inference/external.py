"""Whether an ONNX graph keeps data in other files, read from its bytes alone.

OpenVINO looks for such files in the current folder when a graph is loaded from bytes, and has no switch against it.
The field numbers are those of ``onnx.proto``, the encoding that of protobuf. What protobuf's own reader takes and what
is read here must be the same, so every form in which they could differ is refused, also where protobuf allows it.
"""

from __future__ import annotations

import re

# message → field number → the message it holds; what can hold a tensor, directly or not. All of them have a length.
_HOLDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LOCATION = b"location"
_LENGTH_OF_IT = re.compile(rb"(\x08|\x88\x80*\x00)\Z")  # 8 as a varint, which may be longer than it must be


def has_external_data(data: bytes) -> bool:
    """Whether any tensor of the graph names a file. Raises ValueError for bytes that are no ONNX graph.

    Two looks: at the fields of every tensor, and for the word that a name of a file must follow, wherever it stands.
    """
    return _in_a_tensor(data) or _named_anywhere(data)


def _in_a_tensor(data: bytes) -> bool:
    waiting = [("model", 0, len(data))]
    while waiting:
        message, position, end = waiting.pop()
        while position < end:
            number, kind, position = _tag(data, position, end)
            expected = _expected(message, number)
            if expected is not None and kind != expected:
                raise ValueError(f"its field {number} of a {message} is of another kind than in ONNX")
            start, position = _skip(data, kind, position, end)
            if number in _HOLDS[message]:
                waiting.append((_HOLDS[message][number], start, position))
            elif expected == _BYTES or (expected == _VARINT and _varint(data, start, position)[0]):
                return True  # external_data, or a data_location that is not the default
    return False


def _named_anywhere(data: bytes) -> bool:
    """Whether a text of the graph, of any field, is exactly ``location``: what stands before the name of a file.

    Needs no knowledge of where fields start, so nothing can lead it astray; ``resight`` itself writes no such text.
    """
    found = data.find(_LOCATION)
    while found >= 0:
        if _LENGTH_OF_IT.search(data, max(0, found - 10), found):
            return True
        found = data.find(_LOCATION, found + 1)
    return False


def _expected(message: str, number: int) -> int | None:
    """How the field must be encoded, where that matters here."""
    if number in _HOLDS[message] or (message == "tensor" and number == _EXTERNAL_DATA):
        return _BYTES
    return _VARINT if message == "tensor" and number == _DATA_LOCATION else None


def _tag(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """Number and kind of the field that starts here, and where its content does. protobuf reads 32 bits of it."""
    tag, after = _varint(data, position, end, most=5)
    if tag >> 32 or not tag >> 3:
        raise ValueError("it holds a field of a number that protobuf does not have")
    return tag >> 3, tag & 7, after


def _skip(data: bytes, kind: int, position: int, end: int) -> tuple[int, int]:
    """Where the field's content starts, and where it ends."""
    length = 0
    if kind == _VARINT:
        _, after = _varint(data, position, end)
        return position, after
    if kind == _BYTES:
        length, position = _varint(data, position, end, most=5)
    elif kind in (_FIXED32, _FIXED64):
        length = 4 if kind == _FIXED32 else 8
    else:
        raise ValueError("it holds a field of a kind that ONNX does not use")
    if position + length > end:
        raise ValueError("it ends early")
    return position, position + length


def _varint(data: bytes, position: int, end: int, *, most: int = 10) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the position after it. At most so many bytes."""
    value = 0
    for place in range(most):
        if position >= end:
            raise ValueError("it ends early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position
    raise ValueError("it holds a number that never ends")
