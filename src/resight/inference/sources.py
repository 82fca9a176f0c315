"""A picture as it is given, and the square that the network sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.images import FORMATS, decode_for, fit
from resight.inference.backend import Pixels
from resight.runs import RunCard

Source = Path | bytes | NDArray[np.uint8]


def square_of(
    card: RunCard, source: Source, *, max_pixels: int | None = None, formats: Sequence[str] = FORMATS
) -> Pixels:
    """uint8 (S, S, C) of a file, an encoded picture or a decoded one, uint8 (H, W) or (H, W, C), by a Run's geometry.

    Raises ImageError for a file or bytes that cannot be used, of other formats or larger than ``max_pixels`` (None:
    ``Geometry.max_pixels``); UsageError for other types.
    """
    return card.geometry.apply(whole_of(card, source, max_pixels=max_pixels, formats=formats))


def whole_of(
    card: RunCard, source: Source, *, max_pixels: int | None = None, formats: Sequence[str] = FORMATS
) -> Pixels:
    """As ``square_of``, before the geometry: uint8 (H, W, C), no larger than it needs."""
    if isinstance(source, (Path, bytes)):
        geometry, channels = card.geometry, card.channels
        return decode_for(geometry, source, channels=channels, max_pixels=max_pixels, formats=formats)
    if not isinstance(source, np.ndarray):
        raise UsageError(f"cannot predict a {type(source).__name__}; expected a pathlib.Path, bytes or an array")
    pixels = source[:, :, None] if source.ndim == 2 else source
    allowed = (1, 3) if card.channels in (1, 3) else (card.channels,)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in allowed or 0 in pixels.shape:
        shapes = "(H, W), (H, W, 1) or (H, W, 3)" if card.channels in (1, 3) else f"(H, W, {card.channels})"
        raise UsageError(f"expected uint8 {shapes}, found {source.dtype} {source.shape}")
    return fit(pixels, card.channels)
