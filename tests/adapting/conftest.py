"""A Run that cuts pictures into tiles, trained once for all that chooses among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.tiny import CLASSES, pattern

import resight
from resight.runs import Run


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes: a pattern of 28 px somewhere in noise."""
    root = tmp_path_factory.mktemp("large")
    for label, kind in enumerate(CLASSES):
        (root / kind).mkdir()
        for number in range(12):
            random = np.random.default_rng(1000 * label + number)
            height, width = random.integers(30, 90, 2)
            pixels = random.integers(100, 150, (height, width, 3), dtype=np.uint8)
            y, x = random.integers(0, height - 27), random.integers(0, width - 27)
            pixels[y : y + 28, x : x + 28] = pattern(kind, number)
            Image.fromarray(pixels).save(root / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def tiled_run(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return resight.train(
        large, model="resnet8", image_size=28, epochs=1, seed=1, workers=0, device="cpu",
        out=tmp_path_factory.mktemp("sealed") / "run",
        set={"data.geometry": "tiles", "tiles.side": 32, "tiles.bag": 6, "model.options.stem": "tiny"},
    )  # fmt: skip
