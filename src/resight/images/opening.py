"""Opening a picture: the file, its header, its size, before any pixel is decoded; and what damage is called.

Pillow's format classes are used directly: ``Image.open`` would warn and refuse by its own limit, which is one number
for the whole process.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UsageError
from resight.images.formats import HEADER_BYTES, peek_size
from resight.images.limits import check_bytes, check_pixels
from resight.images.printable import printable

# The plain JPEG class, not Pillow's factory: that one turns a phone picture with an embedded second one into
# "MPO".
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}

BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# What Pillow raises on damaged files. Warning: where a caller has turned warnings into errors.
DAMAGE = (
    OSError, ValueError, SyntaxError, NotImplementedError, EOFError, struct.error, zlib.error, TypeError,
    KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError, RuntimeError, AssertionError,
    Warning,
)  # fmt: skip

_TIFF_ORIENTATION = 274


def name_of(data: bytes | Path, source: str | None) -> str | None:
    if not isinstance(data, (bytes, bytearray, memoryview, Path)):
        raise UsageError(f"expected bytes or a pathlib.Path, found {type(data).__name__}")
    if source is None and isinstance(data, Path):
        source = str(data)
    return None if source is None else printable(source)


def open_stream(data: bytes | Path, name: str | None) -> AbstractContextManager[IO[bytes]]:
    if not isinstance(data, Path):
        check_bytes(len(data), source=name)
        return nullcontext(io.BytesIO(data))
    try:
        found = os.stat(data)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError("this is a directory, not a picture", source=name, hint="give a file")
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("this is not a regular file", source=name, hint="copy the picture to a file")
        check_bytes(found.st_size, source=name)
        return open(data, "rb")
    except FileNotFoundError as error:
        raise ImageError("there is no such file", source=name, hint="check the path") from error
    except PermissionError as error:
        raise ImageError("no permission to read this file", source=name, hint="check its owner and mode") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error


def read_header(stream: IO[bytes], name: str | None) -> bytes:
    """The first ``HEADER_BYTES`` of a file; the stream is at its beginning again."""
    try:
        header = stream.read(HEADER_BYTES)
        stream.seek(0)
    except OSError as error:
        raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error
    return header


def open_image(stream: IO[bytes], header: bytes, fmt: str, max_pixels: int, name: str | None) -> ImageFile.ImageFile:
    """Read what the file says before its pixels, of any format but NPY, and whether its size is allowed. Pixels are
    not decoded yet.
    """
    early = peek_size(header, fmt)
    if early is not None:
        check_size(early, fmt, max_pixels, name)
    try:
        image = _READERS[fmt](stream)
    except BOMB as error:
        raise too_large(error, max_pixels, name) from error
    except DAMAGE as error:
        raise damaged(fmt, error, name) from error
    try:
        check_size(image.size, fmt, max_pixels, name)
    except ImageError:
        image.close()
        raise
    return image


def check_size(size: tuple[int, int], fmt: str, max_pixels: int, name: str | None) -> None:
    if min(size) <= 0:
        raise UndecodableImage(
            f"its {fmt} header says {size[0]} × {size[1]} pixels; expected at least 1 × 1",
            source=name,
            hint="the file is damaged: copy or export it again",
        )
    check_pixels(*size, max_pixels, source=name)


def too_large(error: BaseException, max_pixels: int, name: str | None) -> ImageTooLarge:
    """Pillow met a frame or tile larger than its own limit while it read the header."""
    found = re.search(r"\((\d+) pixels\)", str(error))
    size = f"{int(found[1]) / 1e6:,.1f} megapixels" if found else "more pixels"
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
    return ImageTooLarge(
        f"a frame or tile of it has {size}, more than the limit of {limit / 1e6:,.1f}",
        source=name,
        hint="shrink the picture",
    )


def damaged(fmt: str, error: BaseException, name: str | None) -> UndecodableImage:
    detail = printable(str(error)) or type(error).__name__
    cut = isinstance(error, EOFError) or any(word in detail.lower() for word in ("truncated", "eof", "not enough"))
    if cut:
        reason = f"the {fmt} file is cut off before its end ({detail})"
    elif "text" in detail.lower() and "large" in detail.lower():
        reason = f"the {fmt} file carries text that unpacks to more than is allowed ({detail})"
    else:
        reason = f"the {fmt} file is damaged ({detail})"
    return UndecodableImage(reason, source=name, hint="copy, download or export it again")


def tiff_orientation(image: ImageFile.ImageFile) -> int:
    value = image.tag_v2.get(_TIFF_ORIENTATION, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
