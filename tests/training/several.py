"""Pictures with any number of labels: bands of colour, each colour one label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": 2, "green": 1, "red": 0}
SIDE = 28


def write_bands(root: Path, count: int = 60, seed: int = 0) -> Path:
    """PNG files with up to three bands, and their table ``bands.csv``; some have no label."""
    root.mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(seed), ["path,labels"]
    for number in range(count):
        pixels = random.integers(0, 60, (SIDE, SIDE, 3))
        own = [name for name in COLOURS if random.random() < (0.6 if name == "red" else 0.4)]
        for place, name in enumerate(own):
            pixels[9 * place : 9 * place + 9, :, COLOURS[name]] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number:03d}.png")
        rows.append(f"{number:03d}.png,{'|'.join(own)}")
    (root / "bands.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root / "bands.csv"
