"""A picture is upright before anything else looks at it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resight.images import decode, probe
from resight.images.orientation import parse_orientation, upright

from .reference import encode, noise

# EXIF 2.32, table 6: where the stored first row and first column are in the upright picture
STORED: dict[int, str] = {
    1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
    5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom",
}  # fmt: skip


def stored(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The array that a camera stores for the upright ``picture``, from the table of the standard."""
    row, column = STORED[orientation].split()
    if row in ("bottom", "right"):
        picture = picture[::-1] if row == "bottom" else picture[:, ::-1]
    if column in ("right", "bottom"):
        picture = picture[:, ::-1] if column == "right" else picture[::-1]
    swap = row in ("left", "right")
    return np.ascontiguousarray(picture.transpose(1, 0, 2) if swap else picture)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("fmt", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_eight_copies_of_one_picture(orientation: int, fmt: str, options: dict[str, Any]) -> None:
    picture = noise(11, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored(picture, orientation), fmt, exif=exif, **options)
    np.testing.assert_array_equal(decode(data), picture)
    info = probe(data)
    assert (info.orientation, info.width, info.height) == (orientation, 7, 11)


def test_eight_phone_photos(odd_images: Path) -> None:
    """One scene, each picture with its number drawn in: nearly equal once upright."""
    pictures = [decode(odd_images / "exif" / f"Portrait_{n}.jpg").astype(float) for n in range(9)]
    for picture in pictures[1:]:
        assert picture.shape == pictures[0].shape == (1800, 1200, 3)
        assert np.abs(picture - pictures[0]).mean() < 12
    assert np.abs(pictures[0][::-1] - pictures[0]).mean() > 30  # the scene is not symmetric


def block(order: str, entries: list[tuple[int, int, int, int]], *, start: int = 8) -> bytes:
    mark = {"<": b"II", ">": b"MM"}[order]
    body = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value))
        for tag, kind, count, value in entries
    )
    return mark + struct.pack(f"{order}HIH", 42, start, len(entries)) + body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_one_tag_is_found_whatever_else_is_broken(order: str, prefix: bytes) -> None:
    broken = (0x010F, 2, 2**31, 2**31)  # a maker's name far beyond the end
    assert parse_orientation(prefix + block(order, [broken, (0x0112, 3, 1, 6)])) == 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"XX*\0\x08\0\0\0\x01\0",
        block("<", [(0x0112, 3, 1, 9)]),
        block("<", [(0x0112, 3, 1, 0)]),
        block("<", [(0x0112, 4, 1, 6)]),
        block("<", [(0x0112, 3, 2, 6)]),
        block("<", [(0x0112, 3, 1, 6)], start=2**31),
        block("<", [(0x0112, 3, 1, 6)])[:-5],
    ],
)
def test_nonsense_is_upright(data: bytes) -> None:
    assert parse_orientation(data) == 1


def test_big_endian_short_with_junk_behind_it() -> None:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 8, 0xFFFF)
    assert parse_orientation(b"MM\0*" + struct.pack(">IH", 8, 1) + entry) == 8


@pytest.mark.parametrize("orientation", STORED)
def test_upright_keeps_every_pixel(orientation: int) -> None:
    picture = noise(3, 5)
    turned = upright(picture, orientation)
    assert sorted(turned.reshape(-1, 3).tolist()) == sorted(picture.reshape(-1, 3).tolist())
    assert turned.flags.c_contiguous
