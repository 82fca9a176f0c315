"""Weather: snow, frost on a window, fog, bright light. float32 (H, W, C) in 0 … 1."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from resight.evaluation.corruptions.filters import Floats, cloud, convolve, enlarge, gaussian, streak

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's grey
ICE = np.array([0.84, 0.93, 1.0], np.float32)  # the tint of frost: a little blue
SEEDS = 18  # of feathers of ice


def snow(
    x: Floats,
    random: np.random.Generator,
    mean: float,
    deviation: float,
    flake: float,
    threshold: float,
    radius: float,
    fall: float,
    kept: float,
) -> Floats:
    """Whitened, under flakes of about ``flake`` pixels that fall within 45 degrees of straight down, and their turn."""
    height, width = x.shape[:2]
    zoom = max(1.0, flake)
    field = random.normal(mean, deviation, (math.ceil(height / zoom), math.ceil(width / zoom))).astype(np.float32)
    field = enlarge(field, height, width)
    flakes = np.where(field < threshold, 0, np.clip(field, 0, 1))[:, :, None].astype(np.float32)
    angle = np.deg2rad(random.uniform(45, 135))
    flakes = convolve(flakes, streak(fall, 2 * radius + 1, float(angle)))
    grey = x if x.shape[2] == 1 else (x @ LUMA)[:, :, None]
    whitened = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
    found: Floats = whitened + flakes + flakes[::-1, ::-1]
    return found


def frost(x: Floats, random: np.random.Generator, picture: float, ice: float) -> Floats:
    """Seen through a window with ice on it. ImageNet-C adds photographs of frost; here the ice is drawn."""
    height, width, channels = x.shape
    layer = _ice(height, width, random)[:, :, None]
    found: Floats = picture * x + ice * (layer * ICE if channels == 3 else layer)
    return found


def _ice(height: int, width: int, random: np.random.Generator) -> Floats:
    """(H, W) in 0 … 1: feathers of ice, up to three from each seed, on a cloudy film of frost."""
    scale = 2 if max(height, width) <= 512 else 1  # drawn larger, then reduced: smooth lines
    side = min(height, width) * scale
    canvas = Image.new("L", (width * scale, height * scale))
    pen = ImageDraw.Draw(canvas)
    thick = max(1, round(side / 180))
    for _ in range(SEEDS):
        x, y = random.uniform(0, canvas.width), random.uniform(0, canvas.height)
        for _ in range(random.integers(1, 4)):
            angle, length = random.uniform(0, 2 * math.pi), side * random.uniform(0.12, 0.55)
            _feather(pen, (x, y), angle, length, light=int(random.integers(140, 256)), thick=thick, depth=2)
    lines = np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float32) / np.float32(255)
    film = cloud(height, width, 1.5, random)
    glow = gaussian(lines[:, :, None], min(height, width) / 50)[:, :, 0]
    ice: Floats = np.clip(0.06 + 0.25 * film + 0.3 * glow + 0.65 * lines, 0, 1)
    return ice


def _feather(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    angle: float,
    length: float,
    *,
    light: int,
    thick: int,
    depth: int,
) -> None:
    """A line with branches at 60 degrees, as water freezes, shorter towards its tip; ``depth`` 0 has none."""
    dx, dy = length * math.cos(angle), length * math.sin(angle)
    x, y = start
    pen.line((x, y, x + dx, y + dy), fill=light, width=thick * max(1, depth))
    count = min(12, int(length / (6 * thick))) if depth else 0
    for k in range(1, count + 1):
        at = k / (count + 1)
        for turn in (-math.pi / 3, math.pi / 3):
            root = (x + dx * at, y + dy * at)
            _feather(
                pen,
                root,
                angle + turn,
                0.4 * length * (1 - at) ** 0.8,
                light=int(light * 0.85),
                thick=thick,
                depth=depth - 1,
            )


def fog(x: Floats, random: np.random.Generator, density: float, decay: float) -> Floats:
    """Drifting fog over the picture, then darkened so that the brightest stays as bright as it can be."""
    height, width = x.shape[:2]
    brightest = float(x.max())
    fogged: Floats = x + density * cloud(height, width, decay, random)[:, :, None]
    return fogged * (brightest / (brightest + density))


def brightness(x: Floats, random: np.random.Generator, added: float) -> Floats:
    """More value of HSV at equal hue and saturation: all channels of a pixel are multiplied by one factor."""
    value = x.max(axis=2, keepdims=True)
    brighter = np.minimum(value + added, 1)
    found: Floats = np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter)
    return found
