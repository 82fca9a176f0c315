"""Heat on the picture, at the picture's own resolution, where the network looked.

What is shown: evidence **for** the class. Where the heat is zero or negative, the picture is left as it is, as in
Grad-CAM (Selvaraju et al. 2017, equation 2). The strongest place of each map has the full colour, so colours say where,
not how much: two maps cannot be compared by them. What the geometry cut away, the network never saw: it is dimmed.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.explaining.colours import colours
from resight.images import Geometry, resize

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
CELLS = 20
"""Maps finer than this are shown as means of so many cells a side: single pixels of a gradient are no places."""
STRENGTH = 0.7
"""The share of the heat's colour where it is strongest."""
_ROWS = 256  # blended at a time: a picture of 64 megapixels would take gigabytes as floats
DIMMED = 0.35
"""What is left of the brightness of what was cut away."""


def upsample(heat: Floats, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Floats:
    """(h, w) → float32 (height, width), bicubic (Keys 1981). ``box``: only that part of the map, as left, top,
    right, bottom in its cells.
    """
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def place(heat: Floats, geometry: Geometry | None, height: int, width: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The heat of the network's square, (h, w), put where it belongs in a picture of this size.

    Returns float32 (height, width), 0 outside, and which pixels the network saw. geometry: None says that the square
    is the whole picture.
    """
    left, top, right, bottom = geometry.window(width, height) if geometry else (0.0, 0.0, float(width), float(height))
    first, last = max(0, round(left)), min(width, max(round(right), round(left) + 1))
    upper, lower = max(0, round(top)), min(height, max(round(bottom), round(top) + 1))
    rows, columns = heat.shape
    x, y = columns / (right - left), rows / (bottom - top)
    box = (
        max(0.0, (first - left) * x),
        max(0.0, (upper - top) * y),
        min(float(columns), (last - left) * x),
        min(float(rows), (lower - top) * y),
    )
    placed = np.zeros((height, width), np.float32)
    seen = np.zeros((height, width), bool)
    placed[upper:lower, first:last] = upsample(heat, lower - upper, last - first, box)
    seen[upper:lower, first:last] = True
    return placed, seen


def overlay(
    pixels: Pixels, heat: Floats, geometry: Geometry | None = None, *, strength: float = STRENGTH, fine: bool = False
) -> Pixels:
    """uint8 (H, W, 1 or 3) and a map (h, w) of the network's square → uint8 (H, W, 3).

    geometry: how the square was made of the picture; None where ``pixels`` are the square itself. strength: 0 … 1, of
    the colour where the heat is strongest; its share falls with the heat. A map without positive values shows the
    picture alone. Maps finer than ``CELLS`` are averaged first, evidence against included; not where they are ``fine``
    by themselves, as those of tiles.
    """
    if max(heat.shape) > CELLS and not fine:
        heat = upsample(heat, CELLS, CELLS)
    placed, seen = place(heat, geometry, *pixels.shape[:2])
    peak = float(heat.max())
    warm = np.clip(placed / peak, 0, 1) if peak > 0 else np.zeros_like(placed)
    strips = [slice(start, start + _ROWS) for start in range(0, len(pixels), _ROWS)]
    return np.concatenate([_blended(pixels[part], warm[part], seen[part], strength) for part in strips])


def _blended(picture: Pixels, warm: Floats, seen: NDArray[np.bool_], strength: float) -> Pixels:
    """Some rows of a picture with heat 0 … 1."""
    alpha = (strength * warm**0.75)[..., None]
    mixed = picture * (1 - alpha) + colours(warm) * alpha
    mixed[~seen] = DIMMED * picture[~seen]
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def enlarge(pixels: Pixels, side: int = 224) -> Pixels:
    """Each pixel of a small picture (H, W, C) as a square block, so that the longer side has at least ``side`` pixels.

    Larger pictures are returned themselves. No filter: what was not there is not invented.
    """
    times = -(-side // max(pixels.shape[:2]))
    return pixels if times <= 1 else pixels.repeat(times, axis=0).repeat(times, axis=1)


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """(H, W, C) with at most ``side`` pixels a side; smaller pictures are returned themselves."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    return resize(pixels, max(1, round(scale * height)), max(1, round(scale * width)))


def beside(picture: Pixels, overlaid: Pixels) -> Pixels:
    """Two pictures of one size, (H, W, 1 or 3) and (H, W, 3), with a white gap: uint8 (H, W + gap + W, 3)."""
    left = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
    gap = np.full((left.shape[0], max(2, left.shape[1] // 50), 3), 255, np.uint8)
    return np.concatenate([left, gap, overlaid], axis=1)


def png(pixels: Pixels) -> bytes:
    """uint8 (H, W, 3), or (H, W) grey, as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
