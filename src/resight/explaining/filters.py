"""What the first layer looks for: its filters as pictures. And tiles of maps for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.explaining.cam import read_weights
from resight.explaining.colours import colours
from resight.images import visible
from resight.runs import WEIGHTS, Run

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
FIRST = ("conv1.weight", "conv1.0.weight")
"""The first convolution, and that of ResNet-D's deep stem."""


def first_filters(run: Run) -> Floats:
    """Weights of the first convolution, float32 (F, C, k, k). Raises RunError where there is none."""
    tensors = read_weights(run)
    found = next((tensors[name] for name in FIRST if name in tensors), None)
    if found is None or found.ndim != 4 or found.shape[1] != run.card.channels:
        raise RunError(f"{run.path / WEIGHTS} has no first convolution over {run.card.channels} channels")
    return found.astype(np.float32)


def filters_picture(weights: Floats, scale: int = 8) -> Pixels:
    """All filters (F, C, k, k) side by side: grey is zero, each filter has its own contrast. uint8 (H, W, 3).

    Filters of other numbers of channels than 1 and 3 are shown as their pictures are: ``resight.images.visible``.
    """
    peak = np.maximum(np.abs(weights).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    shown = np.moveaxis(127.5 + 127.5 * weights / peak, 1, 3).round().astype(np.uint8)
    planes = [visible(one) for one in shown]
    return tiles(np.stack([np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one for one in planes]), scale)


def maps_picture(activations: Floats, count: int = 24, side: int = 64) -> Pixels:
    """The ``count`` maps of (D, h, w) that are most active on average, each with its own contrast, enlarged in blocks
    to about ``side`` pixels. uint8 (H, W, 3).
    """
    best = np.argsort(-activations.mean(axis=(1, 2)), kind="stable")[:count]
    chosen = activations[best]
    low, high = chosen.min(axis=(1, 2), keepdims=True), chosen.max(axis=(1, 2), keepdims=True)
    shown = colours((chosen - low) / np.maximum(high - low, 1e-12)).round().astype(np.uint8)
    return tiles(shown, max(1, round(side / activations.shape[1])), columns=12)


def tiles(pictures: Pixels, scale: int, columns: int = 16, gap: int = 4) -> Pixels:
    """N pictures (N, h, w, 3), each enlarged ``scale`` times in blocks, in rows on white: uint8 (H, W, 3)."""
    large = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    number, height, width = large.shape[:3]
    columns = min(columns, number)
    rows = -(-number // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for k, picture in enumerate(large):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
