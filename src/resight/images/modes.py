"""One rule for each way a picture can store its pixels; every rule ends in uint8 grey or RGB.

    1               0 and 255
    L               as it is
    I;16…, PGM      value × 255 / white, rounded half up; white: 65535 (so value / 257), 4095 for 12-bit TIFF
    RGB, RGBX       as it is; Pillow reads 16-bit colour as the high byte of each value
    P               through its palette
    LA, RGBA, PA    over white:  (c·a + 255·(255 − a) + 127) // 255
    La, RGBa        premultiplied, over white:  min(255, c + 255 − a)
    transparency    a transparent palette entry, grey or colour (PNG's tRNS, GIF) is over white as above
    CMYK            Pillow's conversion; Adobe's inverted JPEGs are turned the right way up by its JPEG reader
    YCbCr           ITU-R 601, as JPEG defines it
    LAB             CIE L*a*b* D50 through LittleCMS to sRGB
    I, F            refused: 32-bit integers and floats have no agreed black and white

Embedded ICC profiles are not applied: networks are trained on pixels without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from resight.errors import UnsupportedImage

Pixels = NDArray[np.uint8]

_BAND_PIXELS = 1 << 20
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_pixels(image: Image.Image, *, png_depth: int | None = None, source: str | None = None) -> Pixels:
    """Turn a loaded picture into uint8 (H, W, 1) where it is grey, (H, W, 3) RGB where it has colour.

    ``png_depth`` is a PNG's bit depth, which its transparent grey or colour counts in. Raises
    ``UnsupportedImage`` for modes without a rule.
    """
    rule = _RULES.get(image.mode)
    if rule is not None:
        pixels = rule(image)
        key = image.info.get("transparency")
        if key is not None and image.mode in ("1", "L", "RGB"):
            pixels = _hide_key(pixels, key, png_depth or 8)
        return pixels
    if image.mode == "I" and image.format == "PPM":  # 16-bit PGM, which Pillow scales to 0 … 65535
        return scale_to_8_bits(np.asarray(image), 65535)
    raise _refuse(image.mode, source)


def _refuse(mode: str, source: str | None) -> UnsupportedImage:
    why = {
        "I": "its pixels are signed or 32-bit integers, which have no agreed black and white",
        "F": "its pixels are floating-point numbers, which have no agreed black and white",
    }.get(mode, f"its pixels are stored as {mode!r}, for which there is no rule")
    return UnsupportedImage(
        why, source=source, hint="save it as 8-bit or 16-bit grey, or as RGB, with a range you choose"
    )


def over_white(colour: Pixels, alpha: Pixels) -> Pixels:
    """Lay ``colour`` (H, W, C) with ``alpha`` (H, W) over white: ``(c·a + 255·(255 − a) + 127) // 255``,
    exactly.
    """
    out = np.empty_like(colour)
    for rows in _bands(colour):
        opacity = alpha[rows, :, None].astype(np.uint16)
        out[rows] = (colour[rows] * opacity + 255 * (255 - opacity) + 127) // 255
    return out


def scale_to_8_bits(values: NDArray[np.generic], white: int) -> Pixels:
    """Scale integers (H, W) in 0 … ``white`` to uint8 (H, W, 1), rounding half up: never saturated, never
    stretched.
    """
    out: Pixels = np.empty((*values.shape, 1), np.uint8)
    for rows in _bands(values):
        out[rows, :, 0] = (values[rows].astype(np.uint32) * 510 + white) // (2 * white)
    return out


def to_grey(pixels: Pixels) -> Pixels:
    """(H, W, 3) RGB → (H, W, 1) by ITU-R 601-2 luma: ``(19595·R + 38470·G + 7471·B + 32768) >> 16``."""
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _bands(values: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of rows of about a million pixels, so that wide intermediate numbers stay small in memory."""
    step = max(1, _BAND_PIXELS // max(1, values.shape[1]))
    for start in range(0, values.shape[0], step):
        yield slice(start, start + step)


def _one_bit(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("L"))[:, :, None]


def _grey(image: Image.Image) -> Pixels:
    return np.asarray(image)[:, :, None]


def _grey_16(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    white = 4095 if tags.get(_TIFF_BITS) == (12,) else 65535
    pixels = scale_to_8_bits(values, white)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels  # Pillow does so for 8 bits, not for 16
    key = image.info.get("transparency")
    return pixels if key is None else np.where((values == key)[:, :, None], np.uint8(255), pixels)


def _colour(image: Image.Image) -> Pixels:
    return np.asarray(image)[:, :, :3]


def _with_alpha(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return over_white(pixels[:, :, :-1], pixels[:, :, -1])


def _premultiplied(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    room = 255 - pixels[:, :, -1:]
    out: Pixels = np.minimum(pixels[:, :, :-1], 255 - room) + room  # min first: stays within uint8
    return out


def _palette(image: Image.Image) -> Pixels:
    if image.mode == "PA" or image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        return over_white(pixels[:, :, :3], pixels[:, :, 3])
    return np.asarray(image.convert("RGB"))


def _through_pillow(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def _lab(image: Image.Image) -> Pixels:
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:  # only with inPlace=True
        raise ValueError("LittleCMS returned no picture")
    return np.asarray(converted)


def _hide_key(pixels: Pixels, key: int | tuple[int, ...], depth: int) -> Pixels:
    """Whiten the pixels of the one transparent grey or colour of a PNG, counted in its own ``depth`` bits.

    Of 16-bit colour Pillow keeps the high bytes, so those are compared.
    """
    return np.where(is_key(pixels, key, depth), np.uint8(255), pixels)


def is_key(pixels: Pixels, key: int | tuple[int, ...], depth: int) -> NDArray[np.bool_]:
    """(H, W, 1): which of (H, W, C) are the one transparent grey or colour, counted in ``depth`` bits."""
    levels = np.atleast_1d(np.asarray(key, dtype=np.int64))
    if depth == 1:  # Pillow says 255 for white, or 1 as the file does
        scaled = np.where(levels > 0, 255, 0)
    else:
        scaled = levels >> 8 if depth == 16 else levels * 255 // (2**depth - 1)
    found: NDArray[np.bool_] = (pixels == scaled).all(axis=2, keepdims=True)
    return found


_RULES: dict[str, Callable[[Image.Image], Pixels]] = {
    "1": _one_bit,
    "L": _grey,
    "I;16": _grey_16,
    "I;16L": _grey_16,
    "I;16B": _grey_16,
    "RGB": _colour,
    "RGBX": _colour,
    "P": _palette,
    "PA": _palette,
    "LA": _with_alpha,
    "RGBA": _with_alpha,
    "La": _premultiplied,
    "RGBa": _premultiplied,
    "CMYK": _through_pillow,
    "YCbCr": _through_pillow,
    "LAB": _lab,
}
