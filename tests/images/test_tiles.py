"""Where tiles lie and what is in them, against slow references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resight.errors import ImageTooLarge, RunError, UsageError
from resight.images import MAX_PIXELS, Geometry, cut, decode_for, tile_boxes, tiles_of, windows_of


def tiles(size: int = 8, tile: int = 8, stride: int = 4) -> Geometry:
    return Geometry("tiles", size, size, tile=tile, stride=stride)


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(1, 20), stride=st.integers(1, 20)
)  # fmt: skip
def test_every_pixel_lies_in_a_tile_and_small_objects_whole_in_one(
    height: int, width: int, tile: int, stride: int
) -> None:
    stride = min(stride, tile)
    boxes = tile_boxes(tiles(tile=tile, stride=stride), height, width)
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (tile, tile)
        if height >= tile:
            assert 0 <= top <= bottom <= height
        if width >= tile:
            assert 0 <= left <= right <= width
        covered[max(0, top) : bottom, max(0, left) : right] += 1
    assert covered.min() >= 1
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    small = tile - stride  # what is no larger than the overlap
    if small and height >= tile and width >= tile:
        for y, x in [(0, 0), (height - small, width - small), (height // 2 - small // 2, width // 3)]:
            y, x = min(max(0, y), height - small), min(x, width - small)
            whole = (boxes[:, 0] <= x) & (boxes[:, 1] <= y) & (boxes[:, 2] >= x + small) & (boxes[:, 3] >= y + small)
            assert whole.any()


def test_boxes_by_hand() -> None:
    assert tile_boxes(tiles(), 8, 13).tolist() == [[0, 0, 8, 8], [4, 0, 12, 8], [5, 0, 13, 8]]  # the last moved inwards
    assert tile_boxes(tiles(), 5, 8).tolist() == [[0, -1, 8, 7]]  # beyond the picture on both sides
    assert len(tile_boxes(tiles(tile=128, stride=96), 2000, 2000)) == 21 * 21


@pytest.mark.parametrize(("height", "width"), [(30, 41), (7, 30), (3, 5), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_tile_is_what_pillow_makes_of_its_own_pixels(height: int, width: int, channels: int) -> None:
    geometry = tiles(size=6, tile=12, stride=7)
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)
    around = np.full((height + 40, width + 40, channels), 114, np.uint8)
    around[20:-20, 20:-20] = pixels
    boxes = tile_boxes(geometry, height, width)
    expected = []
    for left, top, right, bottom in boxes + 20:
        part = around[top:bottom, left:right]
        planes = [Image.fromarray(part[..., c]).resize((6, 6), Image.Resampling.BILINEAR) for c in range(channels)]
        expected.append(np.stack([np.asarray(plane) for plane in planes], axis=2))
    np.testing.assert_array_equal(cut(geometry, pixels, boxes), np.stack(expected))
    for batch in (1, 2, 100):  # no matter with which others
        parts = list(tiles_of(geometry, pixels, batch))
        assert all(len(found) <= batch for found, _ in parts)
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), np.stack(expected))


def test_the_card_of_other_geometries_stays_as_it_was() -> None:
    plain = Geometry("crop", 224, 256).to_dict()
    assert plain == {"kind": "crop", "size": 224, "resize": 256, "interpolation": "bilinear", "version": 2}
    assert Geometry.from_dict(plain) == Geometry("crop", 224, 256)
    ours = tiles(8, 32, 16).to_dict()
    assert ours["tile"] == 32
    assert ours["stride"] == 16
    assert Geometry.from_dict(ours) == tiles(8, 32, 16)
    with pytest.raises(RunError, match="keys"):
        Geometry.from_dict(plain | {"tile": 3})
    with pytest.raises(RunError, match="not valid"):
        Geometry.from_dict(ours | {"stride": 33})


@pytest.mark.parametrize(
    "wrong", [{"tile": 0}, {"stride": 0}, {"stride": 9}, {"tile": 9000}, {"tile": 8.0}, {"kind": "crop"}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="geometry"):
        Geometry(**({"kind": "tiles", "size": 8, "resize": 8, "tile": 8, "stride": 4} | wrong))


def test_there_is_no_one_square() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    for ask in (lambda: tiles().apply(pixels), lambda: tiles().window(20, 20)):
        with pytest.raises(UsageError, match="no one square"):
            ask()
    with pytest.raises(UsageError, match="has no tiles"):
        tile_boxes(Geometry("squash", 8), 20, 20)


def test_large_pictures_are_for_tiles_alone_and_decoded_in_full(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)).save(path)
    with pytest.raises(ImageTooLarge):
        decode_for(Geometry("squash", 8), path, channels=1)
    assert decode_for(tiles(), path, channels=1).size > MAX_PIXELS
    assert tiles().reduction(10_000, 10_000) == 1


@pytest.mark.parametrize("size", [(40, 64), (9, 30), (5, 5), (33, 100)])
def test_windows_show_what_lies_about_each_tile_coarsely(size: tuple[int, int]) -> None:
    geometry = tiles(size=16, tile=16, stride=8)
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    boxes = tile_boxes(geometry, *size)
    height, width = (max(1, round(length * 4 / 16)) for length in size)
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    parts = list(windows_of(geometry, pixels, boxes, 4, 7, 5))
    assert max(map(len, parts)) <= 5
    found = np.concatenate(parts)
    assert found.shape == (len(boxes), 7, 7, 3)
    for (left, top, right, bottom), window in zip(boxes.tolist(), found, strict=True):
        x = int(np.floor((left + right) / 2 * width / size[1] - 3.5 + 0.5))
        y = int(np.floor((top + bottom) / 2 * height / size[0] - 3.5 + 0.5))
        for row in range(7):
            for column in range(7):
                inside = 0 <= y + row < height and 0 <= x + column < width
                expected = small[y + row, x + column] if inside else (114, 114, 114)
                assert tuple(window[row, column]) == tuple(expected)
