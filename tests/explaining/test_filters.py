"""Filters and maps as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.inference.tiny import make_run

from resight.errors import RunError
from resight.explaining import filters_picture, first_filters, maps_picture
from resight.explaining.filters import tiles


def test_zero_is_grey_and_each_filter_has_its_contrast() -> None:
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[1, 0, 0, 0] = 0.001
    weights[2, 2, 1, 1] = -5
    sheet = filters_picture(weights, scale=1)
    assert sheet.shape == (2, 3 * 2 + 2 * 4, 3)
    assert (sheet[:, :2] == 128).all()
    assert tuple(sheet[0, 6]) == (255, 128, 128)
    assert tuple(sheet[1, 13]) == (128, 128, 0)


def test_grey_filters_and_rows() -> None:
    sheet = filters_picture(np.ones((20, 1, 3, 3), np.float32), scale=2)
    assert sheet.shape == (2 * 6 + 4, 16 * 10 - 4, 3)
    assert (sheet[-6:, -6:] == 255).all()  # the second row has four


def test_the_most_active_maps_come_first() -> None:
    maps = np.zeros((30, 4, 4), np.float32)
    maps[17, 2, 3] = 9
    maps[5, 0, 0] = 5
    sheet = maps_picture(maps, count=2, side=4)
    assert sheet.shape == (4, 12, 3)
    assert sheet[2, 3].sum() > 600
    assert sheet[0, 8].sum() > 600
    assert sheet[0, 0].sum() < 20


def test_tiles_lie_in_rows() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    sheet = tiles(pictures, 3, columns=2, gap=1)
    assert sheet.shape == (3 * 6 + 2, 13, 3)
    assert sheet[7, 7, 0] == 3
    assert sheet[0, 6, 0] == 255


def test_a_run_without_a_first_convolution(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no first convolution"):
        first_filters(make_run(tmp_path / "run"))
