"""Small data sets made on the spot, and the shared real one."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., Path]


def save_picture(path: Path, seed: int = 0, fmt: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, fmt)


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """``make_images({"cat": 3, "train/dog": 2})`` writes that many pictures into each folder."""

    def make(counts: dict[str, int], root: Path | None = None) -> Path:
        root = root or tmp_path / "data"
        root.mkdir(exist_ok=True)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                save_picture(root / folder / f"{number}.png", seed=number)
        return root

    return make


@pytest.fixture(scope="session")
def clothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos: 10 classes, in train and val."""
    shared = os.environ.get("RESIGHT_SHARED_DATA")
    if not shared:
        pytest.skip("RESIGHT_SHARED_DATA is not set: the real photos are not here")
    for archive in (Path(shared) / "clothing.zip", Path(shared) / "data" / "clothing.zip"):
        if archive.is_file():
            target = tmp_path_factory.mktemp("clothing")
            with zipfile.ZipFile(archive) as content:
                content.extractall(target)
            return target / "clothing"
    pytest.fail(f"RESIGHT_SHARED_DATA is {shared}, but there is no clothing.zip in it")
