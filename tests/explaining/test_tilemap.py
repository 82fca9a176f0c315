"""Maps of tiles: what the answer is the sum of, on its place, at the picture's own resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.inference.tiled import GEOMETRY, expected, photo, tiled_run

from resight.explaining import TileMap, explain_tiles, read_head
from resight.images import tile_boxes
from resight.inference import Predictor


def some_map(height: int, width: int, seed: int = 0, cells: int = 3) -> TileMap:
    boxes = tile_boxes(GEOMETRY, height, width)
    values = np.random.default_rng(seed).normal(size=(len(boxes), cells, cells + 1)).astype(np.float32)
    return TileMap(height, width, boxes, values)


def slow(found: TileMap) -> NDArray[np.float64]:
    """Pixel by pixel: which cell of which tile it lies in, and that cell's share."""
    out = np.zeros((found.height, found.width))
    for (left, top, right, bottom), cells in zip(found.boxes, found.cells, strict=True):
        rows, columns = cells.shape
        ys, xs = np.round(np.linspace(0, bottom - top, rows + 1)), np.round(np.linspace(0, right - left, columns + 1))
        for i in range(rows):
            for j in range(columns):
                area = (ys[i + 1] - ys[i]) * (xs[j + 1] - xs[j])
                for y in range(int(ys[i]), int(ys[i + 1])):
                    for x in range(int(xs[j]), int(xs[j + 1])):
                        if 0 <= y + top < found.height and 0 <= x + left < found.width:
                            out[y + top, x + left] += cells[i, j] / area
    return out


@pytest.mark.parametrize(("height", "width"), [(40, 57), (16, 16), (9, 30), (7, 6)])
def test_painting_is_pixel_by_pixel(height: int, width: int) -> None:
    found = some_map(height, width)
    np.testing.assert_allclose(found.whole(), slow(found), atol=1e-6)
    np.testing.assert_allclose(found.rows(3, 7), slow(found)[3:7], atol=1e-6)


@pytest.mark.parametrize("most", [1, 10, 33, 300])
def test_a_reduced_map_has_the_means(most: int) -> None:
    found = some_map(300, 170, cells=2)
    factor, whole = -(-300 // most), found.whole()
    small = found.reduced(most)
    assert max(small.shape) <= most
    for i, j in np.ndindex(*small.shape):
        part = whole[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
        assert small[i, j] == pytest.approx(part.mean(), abs=1e-7)


def test_the_peak_is_the_middle_of_what_is_largest() -> None:
    found = TileMap(40, 60, np.array([[8, 16, 24, 32], [40, 8, 56, 24]]), np.array([[[1.0]], [[3.0]]], np.float32))
    assert found.peak() == (48, 16)
    grey = found.grey()
    assert grey.shape == (40, 60)
    assert grey[8:24, 40:56].min() == 255
    assert grey[16:32, 8:24].tolist() == [[85] * 16] * 16
    assert grey[:8].max() == 0
    against = TileMap(40, 60, found.boxes, -found.cells)
    assert against.grey().max() == 0


@pytest.mark.parametrize("classes", [[], [2], [1, 0]])
def test_the_map_sums_to_the_logit(tmp_path: Path, classes: list[int]) -> None:
    run = tiled_run(tmp_path / "run")
    picture = photo(0, 90, 130)
    found = explain_tiles(Predictor(run, threads=1, batch=1), picture, read_head(run), classes, top=2)
    logits, embedding, share = expected(picture)
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    np.testing.assert_allclose(found.embedding, embedding, atol=1e-5)
    np.testing.assert_allclose(found.shares, share, atol=1e-5)
    assert list(found.classes) == (classes or np.argsort(-logits)[:2].tolist())
    for k, one in zip(found.classes, found.maps, strict=True):
        assert one.whole().sum() == pytest.approx(logits[k], abs=1e-3)  # the bias is 0


def test_the_peak_lies_in_the_object(tmp_path: Path) -> None:
    run = tiled_run(tmp_path / "run")
    picture = np.full((90, 130, 3), 90, np.uint8)
    picture[31:39, 77:85] = (220, 20, 20)
    found = explain_tiles(Predictor(run, threads=1), picture, read_head(run), [2])
    x, y = found.maps[0].peak()
    assert 77 <= x < 85
    assert 31 <= y < 39
