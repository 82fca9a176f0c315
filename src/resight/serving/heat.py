"""The picture with the class activation map over it."""

from __future__ import annotations

import numpy as np

from resight.explaining import Head, check_head, class_activation, enlarge, overlay, png
from resight.images import Geometry, decode_for, resize, visible
from resight.inference.backend import Pixels
from resight.serving.batcher import Row
from resight.serving.limits import FORMATS, Limits

SIDE = 1024
"""The longer side of the picture that is answered, at most."""
OUTPUTS = ("features", "probabilities", "logits")


def shown(data: bytes, channels: int, limits: Limits) -> Pixels:
    """The picture as people see it, not larger than ``SIDE``: uint8 (H, W, 3). channels: of the Run; a grey Run's
    pictures are shown in their colours. Raises ImageError.
    """
    pixels = visible(
        decode_for(
            Geometry("letterbox", SIDE),
            data,
            channels=3 if channels == 1 else channels,
            max_pixels=limits.max_pixels,
            formats=FORMATS,
        )
    )
    height, width = pixels.shape[:2]
    if max(height, width) > SIDE:
        scale = SIDE / max(height, width)
        pixels = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return enlarge(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def draw(picture: Pixels, row: Row, head: Head, geometry: Geometry, target: int) -> bytes:
    """A PNG: ``picture`` with what speaks for the class ``target`` over it. row: of ``OUTPUTS``, for one picture.

    Raises RunError for a network whose answer is no sum of its features.
    """
    features = row["features"][None]
    check_head(features, row["logits"][None], head)
    heat = class_activation(features, head.weights[target][None])[0]
    return png(overlay(picture, heat, geometry))
