"""A map of heat over the picture that it belongs to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRENGTH = 0.6  # how much of the colour covers the hottest place
WARM = ((255, 214, 60), (214, 30, 36))  # a little heat, and the most


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The picture, uint8 (S, S, 1 or 3), coloured where ``heat`` (h, w), made smooth, is above 0: uint8 (S, S, 3).

    The hottest place is the reddest, whatever its heat; where there is none, the picture stays as it is.
    """
    side = (pixels.shape[1], pixels.shape[0])
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(side, Image.Resampling.BICUBIC))
    top = float(smooth.max())
    share = np.clip(smooth / top, 0, 1)[:, :, None] if top > 0 else np.zeros((*smooth.shape, 1), np.float32)
    low, high = np.array(WARM, np.float32)
    colour, alpha = low + (high - low) * share, STRENGTH * share
    blended: NDArray[np.uint8] = np.rint(pixels * (1 - alpha) + colour * alpha).astype(np.uint8)
    return blended
