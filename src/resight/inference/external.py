"""Whether an ONNX graph keeps data in other files, read from its bytes alone.

OpenVINO looks for such files in the current folder when a graph is loaded from bytes, and has no switch against it.
The field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

# message → field number → the message it holds; what can hold a tensor, directly or not
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


def has_external_data(data: bytes) -> bool:
    """Whether any tensor of the graph names a file. Raises ValueError for bytes that are no ONNX graph."""
    waiting = [("model", 0, len(data))]
    while waiting:
        message, position, end = waiting.pop()
        while position < end:
            key, position = _varint(data, position, end)
            number, kind = key >> 3, key & 7
            if message == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                value, after = _varint(data, position, end)
                if number == _EXTERNAL_DATA or value:
                    return True
                position = after
                continue
            start, position = _skip(data, kind, position, end)
            if kind == _BYTES and number in _HOLDS[message]:
                waiting.append((_HOLDS[message][number], start, position))
    return False


def _skip(data: bytes, kind: int, position: int, end: int) -> tuple[int, int]:
    """Where the field's content starts, and where it ends."""
    length = 0
    if kind == _VARINT:
        _, after = _varint(data, position, end)
        return position, after
    if kind == _BYTES:
        length, position = _varint(data, position, end)
    elif kind in (_FIXED32, _FIXED64):
        length = 4 if kind == _FIXED32 else 8
    else:
        raise ValueError("it holds a field of a kind that ONNX does not use")
    if position + length > end:
        raise ValueError("it ends early")
    return position, position + length


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the position after it."""
    value = 0
    for place in range(10):
        if position >= end:
            raise ValueError("it ends early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position
    raise ValueError("it holds a number that never ends")
