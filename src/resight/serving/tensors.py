"""Tensors of the Open Inference Protocol: from JSON and from bytes, and back.

https://github.com/kserve/open-inference-protocol (REST), Triton's extension for binary tensors
(docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.serving.refusals import malformed

Pixels = NDArray[np.uint8]
_LENGTH = struct.Struct("<I")


def shape_of(value: Any, name: str, expected: Sequence[int | None]) -> tuple[int, ...]:
    """A shape as ``expected``, None for any number from 1 on. Raises Refused (400)."""
    good = isinstance(value, list) and len(value) == len(expected) and all(type(side) is int for side in value)
    if not good or not all(
        got == want or (want is None and got >= 1) for got, want in zip(value, expected, strict=True)
    ):
        wanted = ", ".join("N ≥ 1" if side is None else str(side) for side in expected)
        raise malformed(f"the input {name} has another shape; expected [{wanted}]")
    return tuple(value)


def pixels_from_json(data: Any, shape: tuple[int, ...]) -> Pixels:
    """Whole numbers 0 … 255, nested or flat in row-major order. Raises Refused (400)."""
    try:
        found = np.asarray(data) if isinstance(data, list) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        found = None
    if found is None or found.dtype.kind not in "iu":
        raise malformed("the data of pixels are not a list of whole numbers, nested evenly or not at all")
    if found.shape != shape and found.shape != (math.prod(shape),):
        raise malformed(
            f"the data of pixels have the shape {list(found.shape)}; expected {list(shape)}, or all in a row"
        )
    if found.size and (found.min() < 0 or found.max() > 255):
        raise malformed("the data of pixels have numbers outside of 0 … 255")
    return found.astype(np.uint8).reshape(shape)


def images_from_json(data: Any, count: int) -> list[bytes]:
    """Encoded pictures, each as a base64 text. Raises Refused (400)."""
    if not isinstance(data, list) or len(data) != count or not all(isinstance(text, str) for text in data):
        raise malformed(f"the data of image are not {count} texts")
    try:
        return [base64.b64decode(text, validate=True) for text in data]
    except (binascii.Error, ValueError):
        raise malformed(
            "a text of image is not base64; encoded pictures are sent as base64 in JSON, or as binary data"
        ) from None


def pixels_from_bytes(data: memoryview, shape: tuple[int, ...]) -> Pixels:
    """One byte for each number, in row-major order. Raises Refused (400)."""
    if len(data) != math.prod(shape):
        raise malformed(f"pixels have {len(data)} bytes; the shape {list(shape)} needs {math.prod(shape)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def images_from_bytes(data: memoryview, count: int) -> list[bytes]:
    """Encoded pictures, each after its length in 4 little-endian bytes. Raises Refused (400)."""
    found: list[bytes] = []
    position = 0
    while position < len(data) and len(found) < count:
        if position + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if length > len(data) - position:
            raise malformed(f"picture {len(found)} of image has {length} bytes, of which {len(data) - position} came")
        found.append(bytes(data[position : position + length]))
        position += length
    if len(found) != count or position != len(data):
        raise malformed(f"the bytes of image are not {count} pictures, each after its length")
    return found


def to_json(array: NDArray[Any]) -> list[Any]:
    """All numbers or texts in a row, float32 as they are."""
    return [_text(one) for one in array.ravel()] if array.dtype == object else array.ravel().tolist()


def to_bytes(array: NDArray[Any]) -> bytes:
    """Numbers little-endian; texts (dtype object) each after its length."""
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(one)) + one for one in array.ravel())


def texts(values: Sequence[str], shape: tuple[int, ...]) -> NDArray[Any]:
    """UTF-8 texts as an array of objects; what is no UTF-8 in a name keeps its bytes."""
    found = np.empty(len(values), object)
    found[:] = [text.encode("utf-8", "surrogateescape") for text in values]
    return found.reshape(shape)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
