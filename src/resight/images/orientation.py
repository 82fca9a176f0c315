"""The EXIF orientation, read by hand: one tag, whatever else in the EXIF block may be broken.

EXIF 2.32, section 4.6.4, tag 0x0112. Pillow reads the whole block or nothing, and warns or raises on damage;
a damaged camera note must not keep a picture from being read, nor from being upright.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TAG = 0x0112
_SHORT = 3


def find_orientation(info: Mapping[str | tuple[int, int], Any]) -> int:
    """Return the orientation, 1 to 8, that Pillow's ``Image.info`` carries; 1 where there is none or it is
    unreadable.
    """
    block = info.get("exif")
    if isinstance(block, bytes):
        return parse_orientation(block)
    text = info.get("Raw profile type exif")  # how ImageMagick puts EXIF into a PNG: name, length, hexadecimal
    if isinstance(text, str):
        try:
            return parse_orientation(bytes.fromhex("".join(text.split("\n")[3:])))
        except ValueError:
            return 1
    return 1


def parse_orientation(block: bytes) -> int:
    """Return the orientation in an EXIF ``block``, with or without its ``Exif`` prefix; 1 when there is no
    valid one.
    """
    tiff = block[6:] if block.startswith(b"Exif\x00\x00") else block
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for offset in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, offset)
        if tag == _TAG:
            return int(value) if kind == _SHORT and values == 1 and 1 <= value <= 8 else 1
    return 1


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo ``orientation`` on (H, W, C): exact flips and transposes, no resampling."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
