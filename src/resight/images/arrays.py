"""Pictures of any number of channels as NumPy's ``.npy`` files, read by hand: nothing in them can run.

One picture a file: uint8 or uint16 of shape (H, W) or (H, W, C), in C order; uint16 is value / 257, as of every other
16-bit picture. The header is parsed by NumPy's own reader (NEP 1), which takes literals only, and is believed only
where it is exactly what the file's size says: then memory is taken, and never for anything else.
"""

from __future__ import annotations

import ast
import io
import os
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage
from resight.images.bands import MAX_CHANNELS
from resight.images.limits import check_values
from resight.images.modes import scale_to_8_bits
from resight.images.opening import DAMAGE, check_size, damaged
from resight.images.printable import printable

FORMAT = "NPY"
_MOST_HEADER = 4096  # bytes; np.save writes 128
_MOST_SIDE = 1 << 31
_EXPECTED = "expected uint8 or uint16 of shape (H, W) or (H, W, C)"


@dataclass(frozen=True)
class Header:
    """``shape``: (H, W, C). ``dtype``: uint8, or uint16 in either byte order. ``start``: where the pixels begin."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    start: int

    @property
    def mode(self) -> str:
        """How doctor names it, beside Pillow's modes: ``uint8[5]``."""
        return f"{self.dtype.newbyteorder('=').name}[{self.shape[2]}]"


def read_header(stream: IO[bytes], max_pixels: int, name: str | None) -> Header:
    """Parse and check the header, and that the file is exactly as long as it says.

    Raises ``UnsupportedImage`` for objects, other types, Fortran order and other shapes, ``ImageTooLarge`` above the
    limits, ``UndecodableImage`` for what is damaged, cut off or longer than it says.
    """
    shape, fortran, dtype = _parse(stream, name)
    if dtype.hasobject:
        raise UnsupportedImage(
            "this array holds Python objects, which are pickled: opening it could run code, so it was not opened",
            source=name,
            hint="save the numbers alone: np.save(path, np.asarray(pixels, np.uint8), allow_pickle=False)",
        )
    if dtype.kind != "u" or dtype.itemsize not in (1, 2) or dtype.subdtype is not None:
        raise UnsupportedImage(
            f"this array is of {printable(str(dtype), 60)}; {_EXPECTED}",
            source=name,
            hint="choose which value is black and which white, scale to 0 … 255 and save it as uint8",
        )
    if fortran:
        raise UnsupportedImage(
            "this array is in Fortran order; expected C order",
            source=name,
            hint="np.save(path, np.ascontiguousarray(pixels))",
        )
    height, width, channels = _picture(shape, name)
    check_size((width, height), FORMAT, max_pixels, name)
    check_values(width, height, channels, max_pixels, source=name)
    start = stream.tell()
    expected = start + height * width * channels * dtype.itemsize
    found = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    if found != expected:
        what = "is cut off before its end" if found < expected else "goes on behind its end"
        raise UndecodableImage(
            f"the NPY file {what}: it has {found:,} bytes; expected {expected:,} for {shape} {dtype.name}",
            source=name,
            hint="copy or export it again",
        )
    return Header((height, width, channels), dtype, start)


def read_pixels(stream: IO[bytes], header: Header, name: str | None) -> NDArray[np.uint8]:
    """The pixels, uint8 (H, W, C), of a stream that ``read_header`` has read. Perhaps read-only."""
    height, width, channels = header.shape
    size = height * width * channels * header.dtype.itemsize
    try:
        content = stream.read(size)
    except OSError as error:
        raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error
    if len(content) != size:  # it was cut short since its size was asked for
        raise damaged(FORMAT, EOFError(f"{len(content):,} of {size:,} bytes"), name)
    values = np.frombuffer(content, header.dtype)
    if header.dtype.itemsize == 2:
        return scale_to_8_bits(values.reshape(height, width * channels), 65535).reshape(header.shape)
    return values.reshape(header.shape)


def _parse(stream: IO[bytes], name: str | None) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What the header says, of versions 1 and 2 of the format (version 3 is for names of fields, which no picture has).
    The stream stands behind it.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        head = io.BytesIO(stream.read(_MOST_HEADER))  # so that a header of gigabytes is cut off, not read
        version = np.lib.format.read_magic(head)
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]}; expected 1.0 or 2.0")
        ast.literal_eval(_header_text(head, version))  # first: of Python 2's whole numbers (2L) NumPy only warns
        shape, fortran, dtype = readers[version](head)
        stream.seek(head.tell())
    except (*DAMAGE, MemoryError) as error:
        reason = printable(str(error).partition("\n")[0], 120)
        raise UndecodableImage(
            f"the NPY file is damaged: its header cannot be read ({reason})",
            source=name,
            hint="copy it again, or save it again with np.save",
        ) from error
    return shape, fortran, dtype


def _header_text(head: io.BytesIO, version: tuple[int, int]) -> str:
    """What NumPy's reader will parse; ``head`` stands behind the magic string, and is left there."""
    start, width = head.tell(), 2 if version == (1, 0) else 4
    length = int.from_bytes(head.read(width), "little")
    text = head.read(length).decode("latin-1")
    head.seek(start)
    return text


def _picture(shape: tuple[int, ...], name: str | None) -> tuple[int, int, int]:
    """(H, W, C) of a shape. Raises ``UnsupportedImage`` where it is none."""
    sides = (*shape, 1) if len(shape) == 2 else shape
    if any(side >= _MOST_SIDE for side in shape):
        raise ImageTooLarge(
            f"its header says {printable(str(shape), 80)}, which no picture has",
            source=name,
            hint="it is damaged, or worse",
        )
    if len(sides) == 3 and all(type(side) is int for side in sides) and 1 <= sides[2] <= MAX_CHANNELS:
        return sides[0], sides[1], sides[2]
    hint = "one picture a file, channels last"
    if len(sides) == 3 and type(sides[0]) is int and 1 <= sides[0] <= MAX_CHANNELS:
        hint = "channels come last: np.save(path, np.ascontiguousarray(np.moveaxis(pixels, 0, 2)))"
    raise UnsupportedImage(
        f"this array has the shape {printable(str(shape), 80)}; expected (H, W) or (H, W, C) with 1 to {MAX_CHANNELS} "
        "channels",
        source=name,
        hint=hint,
    )
