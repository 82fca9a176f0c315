"""The only decoder: bytes or a path → uint8 (H, W, C). Training, evaluation, prediction and the server share
it.

Content decides, not the name. The first frame counts, EXIF orientation is applied, and ``modes`` has one
written rule for each way of storing pixels, ``bands`` for each number of channels. The size is checked from the
header, before memory is taken: Pillow's own limit is neither relied upon nor changed, for it is one number for the
whole process. Safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ImageFile, features

from resight.errors import ImageError
from resight.images import arrays
from resight.images.bands import GREY_MODES, check_channels, fit, to_bands
from resight.images.formats import FORMATS, extension_matches, identify
from resight.images.geometry import Geometry
from resight.images.limits import MAX_PIXELS
from resight.images.modes import to_pixels
from resight.images.opening import (
    BOMB,
    DAMAGE,
    damaged,
    name_of,
    open_image,
    open_stream,
    read_header,
    tiff_orientation,
    too_large,
)
from resight.images.orientation import find_orientation, upright
from resight.images.printable import printable

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
    stored, ``uint8[5]`` of an array; ``orientation`` is EXIF's 1 to 8; ``extension_matches`` is False for a PNG named
    .jpg. ``channels``: 1 of a grey picture, 3 of any other, whatever its alpha; all of an array. A PNG may carry its
    orientation behind its pixels; then ``probe`` sees 1, and only ``decode`` knows.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int
    extension_matches: bool
    channels: int = 3


def decode(
    data: bytes | Path,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    source: str | None = None,
) -> NDArray[np.uint8]:
    """Decode one picture to uint8 (H, W, ``channels``), upright: RGB for 3, grey (ITU-R 601 luma) for 1, and 2 to 16
    by the rules of ``resight.images.bands``.

    ``data`` is the encoded picture or the path of a file; ``source`` names it in errors (default: the path).
    ``formats`` restricts what is accepted. Raises ``ImageTooLarge`` above ``max_pixels`` (before memory is
    taken), ``UnsupportedImage`` for other formats, for float or 32-bit pixels and for another number of channels,
    ``UndecodableImage`` for empty, truncated or damaged files, ``ImageError`` for a path that cannot be read, and
    ``UsageError`` for wrong arguments.
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
    channels: int | None = 3,
    max_pixels: int | None = None,
    formats: Sequence[str] = FORMATS,
    source: str | None = None,
) -> NDArray[np.uint8]:
    """As ``decode``, for ``geometry.apply`` or training's crops: a JPEG much larger than ``geometry`` needs is
    decoded at 1/2, 1/4 or 1/8 of its size (``geometry.reduction``), which reads all of the file but computes
    fewer pixels. Everything else is the same: limits, which count the full size, orientation, errors. max_pixels:
    None takes ``geometry.max_pixels``.

    uint8 (H, W, ``channels``), perhaps read-only. None: grey, RGB or an array's channels, as stored.
    """
    limit = geometry.max_pixels if max_pixels is None else max_pixels
    return _decode(data, channels, limit, formats, source, geometry)[0]


def verify(
    data: bytes | Path, *, channels: int | None = None, max_pixels: int = MAX_PIXELS, source: str | None = None
) -> ImageInfo:
    """Decode a picture only to see whether it can be, as so many ``channels`` (None: as stored): raises what ``decode``
    raises, and returns what the header said. JPEGs are decoded at 1/8: all of the file is read, few pixels are
    computed.
    """
    return _decode(data, channels, max_pixels, FORMATS, source, _SMALLEST)[1]


def decode_small(
    geometry: Geometry, data: bytes, *, max_pixels: int = MAX_PIXELS, source: str | None = None
) -> tuple[NDArray[np.uint8], ImageInfo, bytes]:
    """As ``decode_for``, with what the header said and the EXIF block, empty where there is none.

    uint8 (H, W, C): grey, RGB or an array's channels, as stored.
    """
    return _decode_whole(data, None, max_pixels, FORMATS, source, geometry)


def read_bytes(path: Path, *, source: str | None = None) -> bytes:
    """The encoded picture in ``path``. Raises ``ImageError`` as ``decode`` does for a path that cannot be read."""
    name = name_of(path, source)
    with open_stream(path, name) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise ImageError(f"the file cannot be read ({printable(str(error))})", source=name) from error


def _decode(
    data: bytes | Path,
    channels: int | None,
    max_pixels: int,
    formats: Sequence[str],
    source: str | None,
    geometry: Geometry | None,
) -> tuple[NDArray[np.uint8], ImageInfo]:
    if channels is not None:
        check_channels(channels)
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
    name = name_of(data, source)
    with open_stream(data, name) as stream:
        header = read_header(stream, name)
        fmt = identify(header, formats, name)
        if fmt == arrays.FORMAT:
            array = arrays.read_header(stream, max_pixels, name)
            pixels = fit(arrays.read_pixels(stream, array, name), channels, name)
            return pixels, _array_info(array, data, source), b""
        with open_image(stream, header, fmt, max_pixels, name) as image:
            orientation = tiff_orientation(image)
            width, height = image.size
            if geometry is not None and image.format == "JPEG":
                factor = geometry.reduction(width, height)
                image.draft(None, (max(1, width // factor), max(1, height // factor)))
            pixels = _load(image, header, channels, max_pixels, name)
            if image.format == "TIFF":  # Pillow turns a TIFF itself
                height, width = pixels.shape[:2]
            else:
                orientation = find_orientation(image.info)
                pixels = upright(pixels, orientation)
                width, height = (height, width) if orientation >= 5 else (width, height)
            info = _info(image, width, height, orientation, data, source)
            exif = image.info.get("exif", b"")
    return fit(pixels, channels, name), info, exif if isinstance(exif, bytes) else b""


def _load(
    image: ImageFile.ImageFile, header: bytes, channels: int | None, max_pixels: int, name: str | None
) -> NDArray[np.uint8]:
    """uint8 (H, W, C): grey or RGB, or 2 or 4 to 16 ``channels`` where so many are asked for."""
    png_depth = header[24] if image.format == "PNG" else None
    try:
        if channels not in (None, 1, 3):
            return to_bands(image, channels, max_pixels, png_depth=png_depth, source=name)
        image.load()
        return to_pixels(image, png_depth=png_depth, source=name)
    except ImageError:
        raise
    except BOMB as error:
        raise too_large(error, max_pixels, name) from error
    except DAMAGE as error:
        raise damaged(str(image.format), error, name) from error


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
    name = name_of(data, source)
    with open_stream(data, name) as stream:
        header = read_header(stream, name)
        fmt = identify(header, formats, name)
        if fmt == arrays.FORMAT:
            return _array_info(arrays.read_header(stream, max_pixels, name), data, source)
        with open_image(stream, header, fmt, max_pixels, name) as image:
            width, height = image.size
            orientation = tiff_orientation(image)
            if image.format != "TIFF":
                orientation = find_orientation(image.info)
                if orientation >= 5:
                    width, height = height, width
            return _info(image, width, height, orientation, data, source)


def _info(
    image: ImageFile.ImageFile,
    width: int,
    height: int,
    orientation: int,
    data: bytes | Path,
    source: str | None,
) -> ImageInfo:
    fmt, matches = str(image.format), extension_matches(_named(data, source), str(image.format))
    channels = 1 if image.mode in GREY_MODES else 3
    return ImageInfo(fmt, width, height, image.mode, orientation, matches, channels)


def _array_info(array: arrays.Header, data: bytes | Path, source: str | None) -> ImageInfo:
    height, width, channels = array.shape
    matches = extension_matches(_named(data, source), arrays.FORMAT)
    return ImageInfo(arrays.FORMAT, width, height, array.mode, 1, matches, channels)


def _named(data: bytes | Path, source: str | None) -> str:
    return str(data) if isinstance(data, Path) else source or ""


def _own(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A contiguous, writable array that shares no memory with Pillow."""
    return np.require(pixels, requirements=["C", "W"])
