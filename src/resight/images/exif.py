"""Which camera took a picture, and when: read by hand from the EXIF block, whatever else in it may be broken.

EXIF 2.32, section 4.6: Make (0x010F) and Model (0x0110) in the first directory, DateTimeOriginal (0x9003) and
BodySerialNumber (0xA431) in the one that ExifIFD (0x8769) points to.
"""

from __future__ import annotations

import struct
from calendar import timegm
from dataclasses import dataclass
from datetime import datetime

_MAKE, _MODEL, _EXIF_IFD, _TIME, _SERIAL = 0x010F, 0x0110, 0x8769, 0x9003, 0xA431
_ASCII, _LONG = 2, 4


@dataclass(frozen=True, slots=True)
class Shot:
    """``camera``: make and model; ``serial``: of its body; both empty where unknown. ``time``: seconds on the
    camera's own clock, whose zone is not known.
    """

    camera: str
    serial: str
    time: int


def find_shot(block: bytes) -> Shot | None:
    """The camera and the time in an EXIF ``block``, with or without its ``Exif`` prefix; None without a valid time."""
    tiff = block[6:] if block.startswith(b"Exif\x00\x00") else block
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    first = _directory(tiff, struct.unpack_from(f"{order}I", tiff, 4)[0], order)
    pointer = first.get(_EXIF_IFD)
    if not isinstance(pointer, int):
        return None
    inner = _directory(tiff, pointer, order)
    try:
        time = timegm(datetime.strptime(_text(inner.get(_TIME)), "%Y:%m:%d %H:%M:%S").timetuple())
    except ValueError:
        return None
    camera = " ".join(filter(None, (_text(first.get(_MAKE)), _text(first.get(_MODEL)))))
    return Shot(camera, _text(inner.get(_SERIAL)), time)


def _directory(tiff: bytes, start: int, order: str) -> dict[int, int | bytes]:
    """Its texts and whole numbers by tag; nothing outside of ``tiff`` is read."""
    found: dict[int, int | bytes] = {}
    if start + 2 > len(tiff):
        return found
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for offset in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, size, value = struct.unpack_from(f"{order}HHII", tiff, offset)
        if kind == _LONG and size == 1:
            found[tag] = value
        elif kind == _ASCII and size <= 256:
            where = offset + 8 if size <= 4 else value
            found[tag] = tiff[where : where + size]
    return found


def _text(value: int | bytes | None) -> str:
    return value.split(b"\x00")[0].decode("ascii", "replace").strip() if isinstance(value, bytes) else ""
