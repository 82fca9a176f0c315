"""The only decoder: bytes or a path → uint8 (H, W, C). Training, evaluation, prediction and the server share
it.

Content decides, not the name. The first frame counts, EXIF orientation is applied, and ``modes`` has one
written rule for each way of storing pixels. The size is checked from the header, before memory is taken:
Pillow's own limit is neither relied upon nor changed, for it is one number for the whole process. That is
why its format classes are used directly: ``Image.open`` would warn and refuse by that number. Safe to call
from many threads.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import PIL
from numpy.typing import NDArray
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
    features,
)

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UsageError
from resight.images.formats import FORMATS, HEADER_BYTES, extension_matches, identify, peek_size
from resight.images.geometry import Geometry
from resight.images.limits import MAX_PIXELS, check_bytes, check_pixels
from resight.images.modes import to_grey, to_pixels
from resight.images.orientation import find_orientation, upright
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

_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# What Pillow raises on damaged files. Warning: where a caller has turned warnings into errors.
_DAMAGE = (
    OSError, ValueError, SyntaxError, NotImplementedError, EOFError, struct.error, zlib.error, TypeError,
    KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError, RuntimeError, AssertionError,
    Warning,
)  # fmt: skip

_TIFF_ORIENTATION = 274
_SMALLEST = Geometry("squash", 1)  # JPEGs at 1/8


RULES = 1
"""Which pixels this package makes of a file, besides Pillow's part: whoever changes a rule of ``modes``,
``orientation`` or ``geometry`` raises it, and pictures that were decoded before are decoded again."""


def decoder_versions() -> dict[str, str]:
    """What decoded pixels depend on, besides the file."""
    libjpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return {"pillow": PIL.__version__, "libjpeg": str(libjpeg), "rules": str(RULES)}


@dataclass(frozen=True)
class ImageInfo:
    """What the header of a picture says.

    ``width`` and ``height`` are those of the upright picture; ``mode`` is Pillow's name for how pixels are
    stored; ``orientation`` is EXIF's 1 to 8; ``extension_matches`` is False for a PNG named .jpg. A PNG may
    carry its orientation behind its pixels; then ``probe`` sees 1, and only ``decode`` knows.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int
    extension_matches: bool


def decode(
    data: bytes | Path,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    source: str | None = None,
) -> NDArray[np.uint8]:
    """Decode one picture to uint8 (H, W, ``channels``), upright: RGB for 3, grey (ITU-R 601 luma) for 1.

    ``data`` is the encoded picture or the path of a file; ``source`` names it in errors (default: the path).
    ``formats`` restricts what is accepted. Raises ``ImageTooLarge`` above ``max_pixels`` (before memory is
    taken), ``UnsupportedImage`` for other formats and for float or 32-bit pixels, ``UndecodableImage`` for
    empty, truncated or damaged files, ``ImageError`` for a path that cannot be read, and ``UsageError`` for
    wrong arguments.
    """
    pixels, _ = decode_with_info(data, channels=channels, max_pixels=max_pixels, formats=formats, source=source)
    return pixels


def decode_with_info(
    data: bytes | Path,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    source: str | None = None,
) -> tuple[NDArray[np.uint8], ImageInfo]:
    """As ``decode``, together with what the header said."""
    pixels, info = _decode(data, channels, max_pixels, formats, source, None)
    return _own(pixels), info


def decode_for(
    geometry: Geometry,
    data: bytes | Path,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    source: str | None = None,
) -> NDArray[np.uint8]:
    """As ``decode``, for ``geometry.apply`` or training's crops: a JPEG much larger than ``geometry`` needs is
    decoded at 1/2, 1/4 or 1/8 of its size (``geometry.reduction``), which reads all of the file but computes
    fewer pixels. Everything else is the same: limits, which count the full size, orientation, errors.

    uint8 (H, W, ``channels``), perhaps read-only.
    """
    return _decode(data, channels, max_pixels, FORMATS, source, geometry)[0]


def verify(data: bytes | Path, *, max_pixels: int = MAX_PIXELS, source: str | None = None) -> ImageInfo:
    """Decode a picture only to see whether it can be: raises what ``decode`` raises, and returns what the header
    said. JPEGs are decoded at 1/8: all of the file is read, few pixels are computed.
    """
    return _decode(data, 3, max_pixels, FORMATS, source, _SMALLEST)[1]


def decode_small(
    geometry: Geometry, data: bytes, *, max_pixels: int = MAX_PIXELS, source: str | None = None
) -> tuple[NDArray[np.uint8], ImageInfo, bytes]:
    """As ``decode_for``, with what the header said and the EXIF block, empty where there is none.

    uint8 (H, W, 1 or 3): grey as stored.
    """
    return _decode_whole(data, None, max_pixels, FORMATS, source, geometry)


def read_bytes(path: Path, *, source: str | None = None) -> bytes:
    """The encoded picture in ``path``. Raises ``ImageError`` as ``decode`` does for a path that cannot be read."""
    name = _name(path, source)
    with _stream(path, name) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error


def _decode(
    data: bytes | Path,
    channels: int,
    max_pixels: int,
    formats: Sequence[str],
    source: str | None,
    geometry: Geometry | None,
) -> tuple[NDArray[np.uint8], ImageInfo]:
    if channels not in (1, 3):
        raise UsageError(f"channels is {channels!r}; expected 3 (RGB) or 1 (grey)")
    pixels, info, _ = _decode_whole(data, channels, max_pixels, formats, source, geometry)
    return pixels, info


def _decode_whole(
    data: bytes | Path,
    channels: int | None,
    max_pixels: int,
    formats: Sequence[str],
    source: str | None,
    geometry: Geometry | None,
) -> tuple[NDArray[np.uint8], ImageInfo, bytes]:
    name = _name(data, source)
    with _stream(data, name) as stream:
        image, header = _open(stream, formats, max_pixels, name)
        with image:
            orientation = _tiff_orientation(image)
            width, height = image.size
            if geometry is not None and image.format == "JPEG":
                factor = geometry.reduction(width, height)
                image.draft(None, (max(1, width // factor), max(1, height // factor)))
            pixels = _load(image, header, max_pixels, name)
            if image.format == "TIFF":  # Pillow turns a TIFF itself
                height, width = pixels.shape[:2]
            else:
                orientation = find_orientation(image.info)
                pixels = upright(pixels, orientation)
                width, height = (height, width) if orientation >= 5 else (width, height)
            info = _info(image, width, height, orientation, data, source)
            exif = image.info.get("exif", b"")
    if channels == 1 and pixels.shape[2] == 3:
        pixels = to_grey(pixels)
    elif channels == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return pixels, info, exif if isinstance(exif, bytes) else b""


def probe(
    data: bytes | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    source: str | None = None,
) -> ImageInfo:
    """Read only the header of a picture. Raises the same errors as ``decode``, as far as the header shows
    them.
    """
    name = _name(data, source)
    with _stream(data, name) as stream:
        image, _ = _open(stream, formats, max_pixels, name)
        with image:
            width, height = image.size
            orientation = _tiff_orientation(image)
            if image.format != "TIFF":
                orientation = find_orientation(image.info)
                if orientation >= 5:
                    width, height = height, width
            return _info(image, width, height, orientation, data, source)


def _name(data: bytes | Path, source: str | None) -> str | None:
    if not isinstance(data, (bytes, bytearray, memoryview, Path)):
        raise UsageError(f"expected bytes or a pathlib.Path, found {type(data).__name__}")
    if source is None and isinstance(data, Path):
        source = str(data)
    return None if source is None else printable(source)


def _stream(data: bytes | Path, name: str | None) -> AbstractContextManager[IO[bytes]]:
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


def _open(
    stream: IO[bytes], formats: Sequence[str], max_pixels: int, name: str | None
) -> tuple[ImageFile.ImageFile, bytes]:
    """Read the header: which format, whether its size is allowed. Pixels are not decoded yet."""
    try:
        header = stream.read(HEADER_BYTES)
        stream.seek(0)
    except OSError as error:
        raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error
    fmt = identify(header, formats, name)
    early = peek_size(header, fmt)
    if early is not None:
        _check_size(early, fmt, max_pixels, name)
    try:
        image = _READERS[fmt](stream)
    except _BOMB as error:
        raise _too_large(error, max_pixels, name) from error
    except _DAMAGE as error:
        raise _damaged(fmt, error, name) from error
    try:
        _check_size(image.size, fmt, max_pixels, name)
    except ImageError:
        image.close()
        raise
    return image, header


def _load(image: ImageFile.ImageFile, header: bytes, max_pixels: int, name: str | None) -> NDArray[np.uint8]:
    png_depth = header[24] if image.format == "PNG" else None
    try:
        image.load()
        return to_pixels(image, png_depth=png_depth, source=name)
    except ImageError:
        raise
    except _BOMB as error:
        raise _too_large(error, max_pixels, name) from error
    except _DAMAGE as error:
        raise _damaged(str(image.format), error, name) from error


def _check_size(size: tuple[int, int], fmt: str, max_pixels: int, name: str | None) -> None:
    if min(size) <= 0:
        raise UndecodableImage(
            f"its {fmt} header says {size[0]} × {size[1]} pixels; expected at least 1 × 1",
            source=name,
            hint="the file is damaged: copy or export it again",
        )
    check_pixels(*size, max_pixels, source=name)


def _too_large(error: BaseException, max_pixels: int, name: str | None) -> ImageTooLarge:
    """Pillow met a frame or tile larger than its own limit while it read the header."""
    found = re.search(r"\((\d+) pixels\)", str(error))
    size = f"{int(found[1]) / 1e6:,.1f} megapixels" if found else "more pixels"
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
    return ImageTooLarge(
        f"a frame or tile of it has {size}, more than the limit of {limit / 1e6:,.1f}",
        source=name,
        hint="shrink the picture",
    )


def _damaged(fmt: str, error: BaseException, name: str | None) -> UndecodableImage:
    detail = printable(str(error)) or type(error).__name__
    cut = isinstance(error, EOFError) or any(word in detail.lower() for word in ("truncated", "eof", "not enough"))
    if cut:
        reason = f"the {fmt} file is cut off before its end ({detail})"
    elif "text" in detail.lower() and "large" in detail.lower():
        reason = f"the {fmt} file carries text that unpacks to more than is allowed ({detail})"
    else:
        reason = f"the {fmt} file is damaged ({detail})"
    return UndecodableImage(reason, source=name, hint="copy, download or export it again")


def _tiff_orientation(image: ImageFile.ImageFile) -> int:
    value = image.tag_v2.get(_TIFF_ORIENTATION, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _info(
    image: ImageFile.ImageFile,
    width: int,
    height: int,
    orientation: int,
    data: bytes | Path,
    source: str | None,
) -> ImageInfo:
    named = str(data) if isinstance(data, Path) else source or ""
    fmt = str(image.format)
    return ImageInfo(fmt, width, height, image.mode, orientation, extension_matches(named, fmt))


def _own(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A contiguous, writable array that shares no memory with Pillow."""
    return np.require(pixels, requirements=["C", "W"])
