"""Numbers of channels: how a picture that stores one becomes one of another, or why it does not.

    1 ↔ 3        grey is repeated; RGB becomes grey by its luma. Alpha is laid over white (``modes``)
    2            grey and alpha: LA, or RGBA through the luma of its colour
    4            RGB and alpha: RGBA, LA with its grey repeated, a palette with transparency, a transparent colour
                 (tRNS: alpha is 0 there, else 255), premultiplied alpha divided out by Pillow. Or a CMYK TIFF's inks
    2, 4 … 16    N grey pages of equal size in one TIFF: page k is channel k. (For 1 and 3 the first page counts.)
    any          an array (``.npy``) of that number of channels, or of 1 and 3 as above

Everything else is refused with both numbers: no channel is invented, none is dropped. Alpha that is a channel is not
applied, and pictures are resized channel by channel: colour under full transparency counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from resight.errors import UnsupportedImage, UsageError
from resight.images.limits import check_values
from resight.images.modes import is_key, scale_to_8_bits, to_grey, to_pixels
from resight.images.opening import check_size

Pixels = NDArray[np.uint8]
MAX_CHANNELS = 16
"""The most that a picture, a network and a Run have."""

GREY_MODES = frozenset({"1", "L", "I;16", "I;16B", "I;16L", "I"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_TIFF_SAMPLES = 277
_NAMES = {
    1: "1 channel (grey)",
    2: "2 channels (grey and alpha)",
    3: "3 channels (RGB)",
    4: "4 channels (RGB and alpha)",
}


def check_channels(channels: Any) -> None:
    """Raise ``UsageError`` for what is no number of channels."""
    if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise UsageError(
            f"channels is {channels!r}; expected a whole number from 1 (grey) over 3 (RGB) to {MAX_CHANNELS}"
        )


def fit(pixels: Pixels, channels: int | None, source: str | None = None) -> Pixels:
    """(H, W, C) → (H, W, ``channels``): itself, grey repeated, or the luma of RGB. None: as it is.

    Raises ``UnsupportedImage`` for any other pair, naming both numbers.
    """
    found = pixels.shape[2]
    if channels in (None, found):
        return pixels
    if (found, channels) == (3, 1):
        return to_grey(pixels)
    if (found, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    raise wrong_number(f"{found} channel{'s' * (found > 1)}", channels, source)


def visible(pixels: Pixels) -> Pixels:
    """What people are shown of (H, W, C): grey and RGB as they are; of four channels the first three; of any other
    number the mean of all. uint8 (H, W, 1 or 3).
    """
    channels = pixels.shape[2]
    if channels in (1, 3):
        return pixels
    if channels == 4:
        return np.ascontiguousarray(pixels[:, :, :3])
    total = pixels.sum(axis=2, dtype=np.uint16, keepdims=True)
    mean: Pixels = ((2 * total + channels) // (2 * channels)).astype(np.uint8)
    return mean


def shown_as(channels: int) -> str:
    """How ``visible`` shows so many channels, in words; empty where the picture is shown as it is."""
    if channels in (1, 3):
        return ""
    return "the first three of 4 channels, as RGB" if channels == 4 else f"the mean of {channels} channels"


def to_bands(
    image: ImageFile.ImageFile,
    channels: int,
    max_pixels: int,
    *,
    png_depth: int | None = None,
    source: str | None = None,
) -> Pixels:
    """Turn an opened picture into uint8 (H, W, ``channels``), 2 or 4 to 16 of them, by the rules above.

    Raises ``UnsupportedImage`` where there is none, ``ImageTooLarge`` for pages that hold too much.
    """
    if image.format == "TIFF" and image.mode in GREY_MODES and _has_page(image, 1):
        return _pages(image, channels, max_pixels, source)
    image.load()
    if image.mode in _ALPHA_MODES or image.has_transparency_data:
        colour, alpha = _colour_and_alpha(image, png_depth or 8)
        if channels in (2, 4):
            return np.concatenate([fit(colour, channels - 1), alpha], axis=2)
        raise wrong_number(_NAMES[colour.shape[2] + 1], channels, source)
    if image.mode == "CMYK" and image.format == "TIFF" and channels == 4:
        return np.asarray(image)
    raise wrong_number(_stored(image), channels, source)


def wrong_number(found: str, expected: int | None, source: str | None) -> UnsupportedImage:
    """The error for a picture that ``found`` names the channels of."""
    return UnsupportedImage(
        f"it has {found}; expected {expected}",
        source=source,
        hint="give pictures with as many channels, or choose another number where the network is trained: --channels",
    )


def _stored(image: ImageFile.ImageFile) -> str:
    samples = getattr(image, "tag_v2", {}).get(_TIFF_SAMPLES, 1)
    bands = len(image.getbands())
    if isinstance(samples, int) and samples > bands:
        return f"{samples} samples a pixel, of which Pillow reads {bands} (pages or .npy can hold all)"
    if image.mode == "CMYK":
        return "4 inks (CMYK)"
    return _NAMES[1 if image.mode in GREY_MODES else 3]


def _colour_and_alpha(image: ImageFile.ImageFile, depth: int) -> tuple[Pixels, Pixels]:
    """(H, W, 1 or 3) and (H, W, 1)."""
    if image.mode in ("P", "PA", "RGBA", "RGBa"):
        pixels = np.asarray(image.convert("RGBA"))
    elif image.mode in ("LA", "La"):
        pixels = np.asarray(image.convert("LA"))
    else:
        return _keyed(image, depth)
    return pixels[:, :, :-1], pixels[:, :, -1:]


def _keyed(image: ImageFile.ImageFile, depth: int) -> tuple[Pixels, Pixels]:
    """One transparent grey or colour, of a PNG."""
    key = image.info["transparency"]
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if image.mode.startswith("I;16"):
        colour, hidden = scale_to_8_bits(values, 65535), (values == key)[:, :, None]
    else:
        colour = to_pixels(Image.fromarray(values))  # of the values alone: the picture itself hides its key
        hidden = is_key(colour, key, depth)
    return colour, np.where(hidden, np.uint8(0), np.uint8(255))


def _has_page(image: ImageFile.ImageFile, number: int) -> bool:
    """Whether there is a page ``number``, from 0; it is open then, else the page that was open before."""
    before = image.tell()
    try:
        image.seek(number)
    except EOFError:
        image.seek(before)
        return False
    return True


def _pages(image: ImageFile.ImageFile, channels: int, max_pixels: int, source: str | None) -> Pixels:
    """The pages of a TIFF as channels: exactly so many, all grey, of one size. Sizes are checked before pixels are
    taken.
    """
    planes: list[Pixels] = []
    for number in range(channels):
        if not _has_page(image, number):
            raise wrong_number(f"{number} pages", channels, source)
        check_size(image.size, "TIFF", max_pixels, source)
        check_values(*image.size, channels, max_pixels, source=source)
        if image.mode not in GREY_MODES:
            raise wrong_number(f"pages that are not all grey (page {number + 1} is {image.mode})", channels, source)
        image.load()
        plane = to_pixels(image, source=source)
        if planes and plane.shape != planes[0].shape:
            sizes = [f"{one.shape[1]} × {one.shape[0]}" for one in (planes[0], plane)]
            raise UnsupportedImage(
                f"its pages differ in size: {sizes[0]} and, page {number + 1}, {sizes[1]}",
                source=source,
                hint="pages that are channels have one size",
            )
        planes.append(plane)
    if _has_page(image, channels):
        raise wrong_number(f"more than {channels} pages", channels, source)
    image.seek(0)  # the header that is told of is the first page's
    return np.concatenate(planes, axis=2)
