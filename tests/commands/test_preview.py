"""``resight preview``: pictures as the network will see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.tiny import write_patterns

from resight.commands import preview as module
from resight.commands.preview import preview


@pytest.mark.parametrize("crop", ["none", "shift", "resized"])
def test_growing_pictures_are_shown_at_the_size_that_they_end_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(module, "_sheet", lambda pixels, names, out: shown.append(pixels) or out)
    data = write_patterns(tmp_path / "data")
    for start in (1.0, 0.7):
        changes = {"data.train_size": 40, "augment.crop": crop, "data.start_scale": start}
        assert preview(data, image_size=40, set=changes) == Path("preview.png")
        assert shown[-1].shape[1:] == (40, 40, 3)
        assert shown[-1].dtype == np.uint8
