"""How much one picture may ask for, checked from its header before memory is taken."""

from __future__ import annotations

from resight.errors import ImageTooLarge

MAX_PIXELS = 64_000_000
"""Width times height. A picture of this size is 192 MB as RGB."""

MAX_TILED_PIXELS = 160_000_000
"""The same where a picture is cut into tiles: 480 MB as RGB."""

MAX_BYTES = 512 * 2**20
"""Size of the encoded file."""


def check_pixels(width: int, height: int, max_pixels: int, *, source: str | None = None) -> None:
    """Raise ``ImageTooLarge`` when ``width * height`` is above ``max_pixels``."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{width} × {height} pixels are {width * height / 1e6:,.1f} megapixels, "
            f"more than the limit of {max_pixels / 1e6:,.1f}",
            source=source,
            hint=f"make the picture smaller, or in Python: decode(…, max_pixels={width * height})",
        )


def check_values(width: int, height: int, channels: int, max_pixels: int, *, source: str | None = None) -> None:
    """Raise ``ImageTooLarge`` when a picture of many channels holds more values than one of ``max_pixels`` in RGB and
    alpha: ``4 * max_pixels``.
    """
    if width * height * channels > 4 * max_pixels:
        raise ImageTooLarge(
            f"{width} × {height} pixels in {channels} channels are {width * height * channels / 1e6:,.1f} million "
            f"values, more than the limit of {4 * max_pixels / 1e6:,.1f}",
            source=source,
            hint="make the picture smaller",
        )


def check_bytes(size: int, *, source: str | None = None, max_bytes: int = MAX_BYTES) -> None:
    """Raise ``ImageTooLarge`` when an encoded picture of ``size`` bytes is above ``max_bytes``."""
    if size > max_bytes:
        raise ImageTooLarge(
            f"the file has {size / 2**20:,.1f} MiB, more than the limit of {max_bytes / 2**20:,.1f} MiB",
            source=source,
            hint="save the picture compressed (PNG or JPEG), or shrink it",
        )
