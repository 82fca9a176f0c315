"""A Run that cuts pictures into tiles, trained once for all that chooses among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.tiny import write_large

import resight
from resight.runs import Run


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="session")
def tiled_run(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return resight.train(
        large, model="resnet8", image_size=28, epochs=1, seed=1, workers=0, device="cpu",
        out=tmp_path_factory.mktemp("sealed") / "run",
        set={"data.geometry": "tiles", "tiles.side": 32, "tiles.bag": 6, "model.options.stem": "tiny"},
    )  # fmt: skip
