"""Deletion, insertion and random maps: closed forms, and networks of which it is known what they look at."""

from __future__ import annotations

import numpy as np
import pytest

from resight.explaining import faithfulness, random_maps
from resight.explaining.faithfulness import BAD, GOOD, area, blur, deleted, exchanged, rank

SIDE = 16


def square() -> np.ndarray:
    """Grey, with a white patch in one corner."""
    pixels = np.full((SIDE, SIDE, 3), 100, np.uint8)
    pixels[:4, :4] = 255
    return pixels


def looks_at_the_patch(squares: np.ndarray) -> np.ndarray:
    """A 'network' whose probability is how white the patch still is."""
    return ((squares[:, :4, :4].mean(axis=(1, 2, 3)) - 100) / 155).clip(0, 1).astype(np.float32)


def spot(top: int, left: int) -> np.ndarray:
    heat = np.zeros((4, 4), np.float32)
    heat[top, left] = 1
    return heat


def test_a_map_of_what_it_looks_at_is_faithful() -> None:
    found = faithfulness(square(), spot(0, 0), looks_at_the_patch, (100 / 255,) * 3, steps=16)
    assert found.deletion < found.random_deletion.min()
    assert found.insertion > found.random_insertion.max()
    assert found.p_value == pytest.approx(1 / 20)
    assert (found.faithful, found.verdict) == (True, GOOD)
    assert -1 <= found.score <= 1


@pytest.mark.parametrize("heat", [spot(3, 3), np.zeros((4, 4), np.float32), -spot(0, 0)])
def test_other_maps_are_not(heat: np.ndarray) -> None:
    found = faithfulness(square(), heat, looks_at_the_patch, (100 / 255,) * 3)
    assert (found.faithful, found.verdict) == (False, BAD)


def test_an_answer_that_does_not_depend_on_the_picture_has_no_faithful_map() -> None:
    found = faithfulness(square(), spot(0, 0), lambda s: np.full(len(s), 0.7, np.float32), (0.5,) * 3)
    assert found.deletion == pytest.approx(0.7)
    assert found.insertion == pytest.approx(0.7)
    assert found.p_value == 1
    assert found.verdict == BAD


def test_areas_by_hand() -> None:
    """Half of the pixels count, and are taken first: the probability falls to 0 in the middle, on a straight line."""
    pixels = np.zeros((8, 8, 1), np.uint8)
    pixels[:, :4] = 200
    heat = np.zeros((8, 8), np.float32)
    heat[:, :4] = 1

    def ask(squares: np.ndarray) -> np.ndarray:
        return (squares[:, :, :4].mean(axis=(1, 2, 3)) / 200).astype(np.float32)

    found = faithfulness(pixels, heat, ask, (0.0,), steps=8, random=1)
    assert found.deletion == pytest.approx(0.25)
    start = float(ask(blur(pixels)[None])[0])
    assert found.insertion == pytest.approx(1 - 0.25 * (1 - start), abs=1e-3)


def test_it_asks_for_as_many_pictures_as_it_says() -> None:
    asked = []

    def ask(squares: np.ndarray) -> np.ndarray:
        asked.append(len(squares))
        return looks_at_the_patch(squares)

    faithfulness(square(), spot(1, 1), ask, (0.5,) * 3, steps=10, random=19)
    assert sum(asked) == 2 * 9 * 20 + 3 == 363


def test_random_maps_are_as_smooth_and_point_elsewhere() -> None:
    """The same mean and autocorrelation; seeded; without a preferred place."""
    heat = np.zeros((16, 16), np.float32)
    heat[3:7, 4:9] = 1
    maps = random_maps(heat, 400, seed=3)
    assert maps.shape == (400, 16, 16)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), heat.mean(), atol=1e-5)

    def correlation(one: np.ndarray) -> np.ndarray:
        return np.fft.ifft2(np.abs(np.fft.fft2(one)) ** 2).real

    np.testing.assert_allclose(correlation(maps[7]), correlation(heat), atol=0.05 * correlation(heat)[0, 0])
    assert np.abs(maps.mean(axis=0) - heat.mean()).max() < 0.12
    np.testing.assert_array_equal(maps[:2], random_maps(heat, 400, seed=3)[:2])
    assert not np.array_equal(maps, random_maps(heat, 400, seed=4))


def test_random_maps_of_one_cell_and_of_nothing() -> None:
    np.testing.assert_allclose(random_maps(np.float32([[3]]), 2, 0), 3)
    np.testing.assert_allclose(random_maps(np.zeros((4, 4), np.float32), 2, 0), 0)


def test_the_order_of_pixels() -> None:
    heat = np.random.default_rng(0).random((8, 8), dtype=np.float32)
    places = rank(heat, 8)
    assert sorted(places.ravel()) == list(range(64))
    assert places.ravel()[heat.argmax()] == 0
    assert places.ravel()[heat.argmin()] == 63
    np.testing.assert_array_equal(rank(np.zeros((4, 4), np.float32), 4).ravel(), np.arange(16))
    first, second = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)
    parts = exchanged(first, second, places, 4)
    assert [int((part[:, :, 0] == 9).sum()) for part in parts] == [16, 32, 48]


def test_baselines() -> None:
    np.testing.assert_array_equal(deleted(square(), (0.2, 0.5, 1.0))[3, 3], [51, 128, 255])
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    blurred = blur(noise)
    assert (blurred.shape, blurred.dtype) == (noise.shape, np.uint8)
    assert abs(blurred.mean() - noise.mean()) < 2
    assert blurred.std() < 0.15 * noise.std()
    assert area([1, 1, 1]) == 1
    assert area([1, 0]) == 0.5
