"""From a picture of any size to the square that a network sees: the only evaluation transform.

Pillow's antialiased filters and torchvision's rounding: ``crop`` is equal, to the pixel, to torchvision's
``Resize`` and ``CenterCrop`` on PIL pictures (up to a ratio of sides of 16:1, see ``resize_short``).

Versions:

    1   JPEGs are decoded in full
    2   JPEGs are decoded by libjpeg at 1/2, 1/4 or 1/8, as small as leaves ``MARGIN`` times the pixels needed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.errors import RunError, UsageError
from resight.images.limits import MAX_PIXELS, MAX_TILED_PIXELS

Kind = Literal["crop", "squash", "letterbox", "tiles"]
Interpolation = Literal["bilinear", "bicubic"]
Pixels = NDArray[np.uint8]

VERSION = 2
VERSIONS = (1, 2)
MARGIN = 1.5
"""By how much a picture decoded at a reduced size is still larger, in each direction, than what it is resized to.

libjpeg shrinks by leaving out high frequencies of each 8 × 8 block, which is not quite Pillow's filter. What is left
is resized by Pillow: the closer the two sizes, the more of the difference remains (docs/decisions.md, 24).
"""

PADDING = 114
"""The grey around a letterboxed picture, in every channel."""

MAX_RATIO = 16
"""Longer pictures keep only this many times their short side, about the middle, before they are resized."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_KINDS = ("crop", "squash", "letterbox", "tiles")
_OF_TILES = ("tile", "stride")  # fields that other kinds do not write down
_MAX_SIDE = 8192
_KNOWN = " and ".join(map(str, VERSIONS))


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes ``size`` × ``size``.

    crop       the shorter side becomes ``resize`` (at least ``size``), then the central square is cut out
    squash     both sides become ``size``; the shape is not kept
    letterbox  the longer side becomes ``size``; the rest is grey (114)
    tiles      many squares: of ``tile`` pixels of the picture every ``stride`` pixels, each resized to ``size``; the
               answers for them are pooled (``resight.images.tiles``, docs/tiles.md)

    Only crop has a ``resize``; for the others it is set to ``size``. ``tile`` and ``stride`` are 0 but for tiles, whose
    pictures may have more pixels (``max_pixels``). ``version``: how JPEGs are decoded before, see above; a picture that
    is cut into tiles always in full. Raises ``UsageError`` for anything else.
    """

    kind: Kind = "crop"
    size: int = 224
    resize: int = 256
    interpolation: Interpolation = "bilinear"
    version: int = VERSION
    tile: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UsageError(f"geometry kind is {self.kind!r}; expected one of {', '.join(_KINDS)}")
        if self.interpolation not in _FILTERS:
            raise UsageError(f"interpolation is {self.interpolation!r}; expected one of {', '.join(_FILTERS)}")
        if self.version not in VERSIONS:
            raise UsageError(f"geometry version is {self.version!r}; this Resight knows versions {_KNOWN}")
        if self.kind != "crop":
            object.__setattr__(self, "resize", self.size)
        for name, side in (("size", self.size), ("resize", self.resize)):
            if type(side) is not int or not 1 <= side <= _MAX_SIDE:
                raise UsageError(f"geometry {name} is {side!r}; expected a whole number from 1 to {_MAX_SIDE}")
        if self.resize < self.size:
            raise UsageError(
                f"geometry resize is {self.resize}, smaller than its size {self.size}: the crop would not be filled",
                hint=f"resize={self.size} or more",
            )
        self._check_tiles()

    def _check_tiles(self) -> None:
        if self.kind != "tiles":
            if (self.tile, self.stride) != (0, 0):
                raise UsageError(f"geometry tile and stride belong to tiles, not to {self.kind}")
            return
        if type(self.tile) is not int or not 1 <= self.tile <= _MAX_SIDE:
            raise UsageError(f"geometry tile is {self.tile!r}; expected a whole number from 1 to {_MAX_SIDE}")
        if type(self.stride) is not int or not 1 <= self.stride <= self.tile:
            raise UsageError(
                f"geometry stride is {self.stride!r}; expected a whole number from 1 to its tile, {self.tile}",
                hint="a larger one would leave out parts of the picture",
            )

    @property
    def max_pixels(self) -> int:
        """Width times height of the largest picture that is decoded for this geometry, where nothing else is said."""
        return MAX_TILED_PIXELS if self.kind == "tiles" else MAX_PIXELS

    def _only_squares(self) -> None:
        if self.kind == "tiles":
            raise UsageError(
                "this geometry cuts a picture into tiles: there is no one square that the network sees",
                hint="see docs/tiles.md for what there is for such Runs",
            )

    def reduction(self, width: int, height: int) -> int:
        """By how much a JPEG of this size is divided when it is decoded for this geometry: 1, 2, 4 or 8.

        The same for a picture and for the same one lying on its side.
        """
        if self.version == 1 or self.kind == "tiles":
            return 1
        side = max(width, height) if self.kind == "letterbox" else min(width, height)
        return max(factor for factor in (1, 2, 4, 8) if factor == 1 or side >= factor * MARGIN * self.resize)

    def apply(self, pixels: Pixels) -> Pixels:
        """uint8 (H, W, C) → uint8 (size, size, C). A picture that needs no change is returned itself, not a
        copy. Raises ``UsageError`` for tiles.
        """
        _check(pixels)
        self._only_squares()
        if self.kind == "crop":
            return center_crop(resize_short(pixels, self.resize, self.interpolation), self.size)
        if self.kind == "squash":
            return resize(pixels, self.size, self.size, self.interpolation)
        return self._letterbox(pixels)

    def _letterbox(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        longer = max(height, width)
        inner_height = max(1, round(height * self.size / longer))
        inner_width = max(1, round(width * self.size / longer))
        inner = resize(pixels, inner_height, inner_width, self.interpolation)
        if inner.shape[:2] == (self.size, self.size):
            return inner
        out = np.full((self.size, self.size, pixels.shape[2]), PADDING, np.uint8)
        top, left = (self.size - inner_height) // 2, (self.size - inner_width) // 2
        out[top : top + inner_height, left : left + inner_width] = inner
        return out

    def window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where in a picture of this size the square lies that the network sees: left, top, right, bottom, in pixels
        of the picture. What lies outside of it was cut away; of a letterbox it reaches beyond the picture. Raises
        ``UsageError`` for tiles.
        """
        self._only_squares()
        short, long = min(width, height), max(width, height)
        spans = []
        for length in (width, height):
            kept, resized, before = length, self.size, 0
            if self.kind == "letterbox":
                resized = max(1, round(length * self.size / long))
                before = (self.size - resized) // 2
            elif self.kind == "crop":
                kept = min(length, MAX_RATIO * short + (long - MAX_RATIO * short) % 2)
                resized = int(self.resize * kept / short)
                before = -round((resized - self.size) / 2.0)
            scale = kept / resized
            start = (length - kept) / 2 - before * scale
            spans.append((start, start + self.size * scale))
        (left, right), (top, bottom) = spans
        return left, top, right, bottom

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if self.kind == "tiles" or name not in _OF_TILES}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """The inverse of ``to_dict``. Raises ``RunError`` for an unknown version, and for unknown, missing
        or wrong keys.
        """
        version = values.get("version")
        if version not in VERSIONS:
            raise RunError(
                f"the geometry has version {version!r}; this Resight knows versions {_KNOWN}",
                hint="use the version of Resight that made this Run, or a newer one",
            )
        known = {field.name for field in fields(cls)} - (set() if values.get("kind") == "tiles" else set(_OF_TILES))
        if set(values) != known:
            raise RunError(
                f"the geometry has the keys {sorted(map(str, values))}; expected {sorted(known)}",
                hint="the Run was made by another version of Resight, or edited by hand",
            )
        try:
            return cls(**values)
        except UsageError as error:
            raise RunError(f"the geometry of this Run is not valid: {error.message}") from error


def resize_short(pixels: Pixels, short: int, interpolation: Interpolation = "bilinear") -> Pixels:
    """Resize (H, W, C) so that its shorter side is ``short``; the longer is ``int(short · long / shorter)``.

    A picture longer than 16:1 is first cut to that ratio about its middle, so that memory stays bounded. A
    picture that has the size already is returned itself.
    """
    _check(pixels)
    pixels = _cut_extreme(pixels)
    height, width = pixels.shape[:2]
    if width <= height:
        return resize(pixels, int(short * height / width), short, interpolation)
    return resize(pixels, short, int(short * width / height), interpolation)


def center_crop(pixels: Pixels, size: int) -> Pixels:
    """Cut the central (size, size, C) out of (H, W, C), with torchvision's rounding of odd margins."""
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise UsageError(f"cannot cut {size} × {size} out of {width} × {height} pixels")
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def resize(pixels: Pixels, height: int, width: int, interpolation: Interpolation = "bilinear") -> Pixels:
    """Resize uint8 (H, W, C) to (height, width, C) with Pillow's antialiased filter; any number of
    channels.
    """
    _check(pixels)
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[2] == 3:
        return _resize_one(pixels, height, width, interpolation)
    planes = [_resize_one(pixels[:, :, c], height, width, interpolation) for c in range(pixels.shape[2])]
    return np.stack(planes, axis=2)


def _resize_one(plane: Pixels, height: int, width: int, interpolation: Interpolation) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.array(picture.resize((width, height), _FILTERS[interpolation]))


def _cut_extreme(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    short, long = min(height, width), max(height, width)
    if long <= MAX_RATIO * short:
        return pixels
    keep = MAX_RATIO * short + (long - MAX_RATIO * short) % 2  # the same margin on both sides
    start = (long - keep) // 2
    return pixels[start : start + keep] if height > width else pixels[:, start : start + keep]


def _check(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape:
        raise UsageError(f"expected pixels of uint8 (H, W, C), found {pixels.dtype} {pixels.shape}")
