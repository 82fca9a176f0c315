"""Pictures with structure, as photos have: smooth shapes and texture, different for each seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """RGB: a coloured sum of waves of 1/f strength, so that all scales are there."""
    random = np.random.default_rng(seed)
    noise = np.fft.rfft2(random.normal(size=(height, width, 3)), axes=(0, 1))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    strength = 1 / np.maximum(np.hypot(down, across), 1 / max(width, height)) ** 1.5
    waves = np.fft.irfft2(noise * strength[:, :, None], s=(height, width), axes=(0, 1))
    pixels = 128 + 45 * (waves - waves.mean(axis=(0, 1))) / waves.std(axis=(0, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def grey(picture: Image.Image, side: int = 64) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def write(root: Path, name: str, picture: Image.Image, **options: object) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def write_set(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """``{"train/cat": 3}``: so many different scenes as JPEG files."""
    for number, (folder, count) in enumerate(counts.items()):
        for k in range(count):
            write(root, f"{folder}/{k}.jpg", scene(start + 1000 * number + k), quality=92)
    return root
