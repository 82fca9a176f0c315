"""Heat lies where the network looked: against pictures whose pixels say where they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps

from resight.explaining import beside, colours, enlarge, overlay, place, upsample
from resight.images import Geometry

GEOMETRIES = [Geometry("crop", 32, 40), Geometry("crop", 32, 32), Geometry("squash", 32), Geometry("letterbox", 32)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GEOMETRIES), st.integers(20, 250), st.integers(20, 250))
def test_the_window_is_where_the_square_came_from(geometry: Geometry, width: int, height: int) -> None:
    """Ramps in x and y through the real geometry: every pixel of the square tells its place in the picture."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width * 200 + 20, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height * 200 + 20)[:, None], (height, width))
    ramps = np.stack([x, y, np.full_like(x, 250)], axis=2).round().astype(np.uint8)
    square = geometry.apply(ramps)
    left, top, right, bottom = geometry.window(width, height)
    inside = square[:, :, 2] == 250  # not a letterbox's grey
    inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    cells = (np.arange(32) + 0.5) / 32
    for channel, start, end, length in ((0, left, right, width), (1, top, bottom, height)):
        expected = (start + cells * (end - start)) / length * 200 + 20
        found = square[:, :, channel].astype(float)
        grid = np.broadcast_to(expected if channel == 0 else expected[:, None], found.shape)
        middle = inside & (grid > 20 + 400 / length * 2) & (grid < 220 - 400 / length * 2)
        cell = (end - start) / 32 / length * 200  # where few cells lie in the picture, its edge cuts the filter off
        assert np.abs(found - grid)[middle].max(initial=0) <= 1.5 + 100 / length + cell / 8


def test_the_window_of_extreme_pictures() -> None:
    """Longer than 16 : 1: cut about the middle first, as apply does."""
    geometry = Geometry("crop", 32, 32)
    assert geometry.window(1600, 20) == pytest.approx((790, 0, 810, 20))
    assert geometry.window(20, 1600) == pytest.approx((0, 790, 20, 810))
    assert Geometry("letterbox", 32).window(64, 32) == pytest.approx((0, -16, 64, 48))
    assert Geometry("squash", 32).window(64, 30) == (0, 0, 64, 30)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(60, 100), (100, 60), (17, 17), (320, 200)])
def test_a_spot_of_the_square_is_the_same_spot_of_the_picture(geometry: Geometry, size: tuple[int, int]) -> None:
    """A bright patch of the picture, found in the square, is where its heat ends up again."""
    height, width = size
    picture = np.zeros((height, width, 3), np.uint8)
    y, x = height // 2 - height // 12, width // 2 + width // 12
    picture[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 255
    heat = geometry.apply(picture)[:, :, 0].astype(np.float32)
    if geometry.kind == "letterbox":
        heat[heat == 114] = 0
    placed, seen = place(heat, geometry, height, width)
    found = np.unravel_index(placed.argmax(), placed.shape)
    assert abs(found[0] - y) <= 2 + height / 32
    assert abs(found[1] - x) <= 2 + width / 32
    assert seen[y, x]
    assert (placed[~seen] == 0).all()


def test_what_was_cut_away_is_dimmed_and_nothing_else_changes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    shown = overlay(picture, np.full((4, 4), -1, np.float32), Geometry("crop", 32, 32))
    assert shown.shape == picture.shape
    np.testing.assert_array_equal(shown[15:75], picture[15:75])  # evidence against is not shown
    np.testing.assert_allclose(shown[:15], 0.35 * picture[:15], atol=1)
    np.testing.assert_array_equal(overlay(picture, np.zeros((4, 4), np.float32)), picture)


def test_strength_and_colour_where_the_heat_is_strongest() -> None:
    picture = np.full((300, 300, 1), 100, np.uint8)
    heat = np.zeros((3, 3), np.float32)
    heat[0, 0] = 7
    for strength in (0.0, 0.5, 1.0):
        shown = overlay(picture, heat, strength=strength)
        expected = 100 * (1 - strength) + strength * colours(np.float32(1))
        np.testing.assert_allclose(shown[10, 10], expected, atol=1)
        np.testing.assert_array_equal(shown[250, 250], 100)


def test_fine_maps_are_shown_as_means() -> None:
    """One hot pixel among as much evidence against it is no hot place."""
    picture = np.full((64, 64, 3), 100, np.uint8)
    noise = np.where(np.indices((64, 64)).sum(axis=0) % 2, 1, -1).astype(np.float32)
    noise[40:60, 40:60] += 1
    shown = overlay(picture, noise).astype(int)
    changed = np.abs(shown - 100).max(axis=2) > 40
    assert changed[45:55, 45:55].all()
    assert not changed[:30, :30].any()


def test_strips_are_not_seen() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (700, 50, 3), dtype=np.uint8)
    heat = np.random.default_rng(2).random((5, 5), dtype=np.float32)
    whole = overlay(picture, heat)
    assert whole.shape == picture.shape
    placed, _ = place(heat, None, 700, 50)
    row = 300
    warm = np.clip(placed[row] / heat.max(), 0, 1)
    alpha = (0.7 * warm**0.75)[:, None]
    np.testing.assert_allclose(whole[row], picture[row] * (1 - alpha) + colours(warm) * alpha, atol=0.51)


def test_bicubic_keeps_constants_and_is_smooth() -> None:
    np.testing.assert_allclose(upsample(np.full((3, 5), 2.5, np.float32), 40, 70), 2.5, rtol=1e-6)
    up = upsample(np.random.default_rng(3).random((4, 4), dtype=np.float32), 128, 128)
    assert np.abs(np.diff(up, axis=0)).max() < 0.1


def test_the_table_is_inferno() -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32)
    expected = colormaps["inferno"](values)[:, :3] * 255
    assert np.abs(colours(values) - expected).max() < 9
    lightness = colours(values) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) > 0).all()
    np.testing.assert_array_equal(colours(np.float32([-1, 2])), colours(np.float32([0, 1])))


def test_small_pictures_are_enlarged_in_blocks() -> None:
    small = np.random.default_rng(4).integers(0, 256, (28, 20, 1), dtype=np.uint8)
    large = enlarge(small)
    assert large.shape == (224, 160, 1)
    np.testing.assert_array_equal(large[::8, ::8], small)
    assert enlarge(large) is large
    assert beside(large, overlay(large, np.ones((2, 2), np.float32))).shape == (224, 160 + 3 + 160, 3)
