"""Corruptions: what each does, to real photographs, against independent filters and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from resight.errors import UsageError
from resight.evaluation import corruptions
from resight.evaluation.corruptions import FAMILIES, KINDS, SEVERITIES, corrupt, strength, table_of
from resight.evaluation.corruptions import filters as filters_of
from resight.evaluation.corruptions.blur import _disc
from resight.evaluation.corruptions.strengths import CIFAR, IMAGENET
from resight.images import center_crop, resize_short

Pixels = NDArray[np.uint8]


def photos(side: int) -> list[Pixels]:
    """scikit-learn's two photographs, a temple and a flower."""
    images = pytest.importorskip("sklearn.datasets").load_sample_images().images
    return [center_crop(resize_short(pixels, side), side) for pixels in images]


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return photos(96)[0]


def distance(one: Pixels, other: Pixels) -> float:
    return float(np.sqrt(np.mean((one.astype(float) - other) ** 2)))


def test_there_are_fifteen_kinds_in_four_families() -> None:
    assert len(KINDS) == len(set(KINDS)) == 15
    assert set(IMAGENET) == set(CIFAR) == set(KINDS)
    assert all(len(table[kind]) == 5 for table in (IMAGENET, CIFAR) for kind in KINDS)
    assert [len(kinds) for kinds in FAMILIES.values()] == [3, 4, 4, 4]


@pytest.mark.parametrize("kind", KINDS)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), channels=st.sampled_from([1, 3]), severity=st.integers(1, 5)
)
@settings(max_examples=12, deadline=None)
def test_any_size_grey_and_colour(kind: str, height: int, width: int, channels: int, severity: int) -> None:
    pixels = np.random.default_rng(height * 50 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    before = pixels.copy()
    changed = corrupt(pixels, kind, severity)
    assert (changed.dtype, changed.shape) == (np.uint8, pixels.shape)
    assert np.array_equal(pixels, before)
    assert np.array_equal(changed, corrupt(pixels, kind, severity))


BY_CHANNEL = {"gaussian_noise", "shot_noise", "impulse_noise", "frost", "jpeg"}  # frost is tinted, JPEG stores chroma


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BY_CHANNEL])
def test_grey_is_what_equal_channels_are(kind: str) -> None:
    grey = photos(64)[1][:, :, :1].copy()
    random = [np.random.default_rng(1) for _ in range(2)]
    how, parameters = corruptions._HOW[kind], strength(kind, 3, 64)
    one, three = (how(x, r, *parameters) for x, r in zip(_unit(grey), random, strict=True))
    np.testing.assert_allclose(np.repeat(one, 3, axis=2), three, atol=1.5 / 255)


def _unit(grey: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x = grey.astype(np.float32) / 255
    return x, np.repeat(x, 3, axis=2)


@pytest.mark.parametrize("kind", KINDS)
def test_chance_depends_on_seed_and_picture_alone(kind: str, photo: Pixels) -> None:
    chance = kind not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg")
    assert np.array_equal(corrupt(photo, kind, 3, 7), corrupt(photo.copy(), kind, 3, 7))
    assert np.array_equal(corrupt(photo, kind, 3, 7), corrupt(np.asfortranarray(photo), kind, 3, 7))
    assert np.array_equal(corrupt(photo, kind, 3, 7), corrupt(photo, kind, 3, 8)) != chance


def test_pictures_get_noise_of_their_own() -> None:
    one, other = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 101, np.uint8)
    noise = [corrupt(pixels, "gaussian_noise", 5).astype(float) - pixels for pixels in (one, other)]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


# Published parameters that do not rise in this distance. Elastic first warps widely, then finely; glass of severity 1
# has two rounds, of severity 2 one; frost of severity 4 is darker than of 3; at 32 px the motions of severities 3
# and 4 have one deviation, and 0.95 of the pixels lie farther from their places than 0.9 of them.
NOT_BY_DISTANCE = {
    224: {"glass_blur", "elastic", "frost"},
    32: {"glass_blur", "elastic", "pixelate", "motion_blur"},
}


@pytest.mark.parametrize("side", [224, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_severity_raises_the_distance_from_the_photograph(kind: str, side: int) -> None:
    pictures, draws = photos(side), 2 if side == 224 else 6
    found = [
        np.mean(
            [distance(corrupt(pixels, kind, severity, seed), pixels) for pixels in pictures for seed in range(draws)]
        )
        for severity in SEVERITIES
    ]
    assert min(found) > (2 if side == 224 else 1)  # of 255
    if kind not in NOT_BY_DISTANCE[side]:
        assert found == sorted(found)
    elif kind != "elastic":
        assert max(found) in found[2:]
        assert found[4] > found[0]


def test_tables_by_size() -> None:
    assert [table_of(side) for side in (28, 64, 65, 224)] == ["CIFAR-10-C"] * 2 + ["ImageNet-C"] * 2
    assert strength("defocus_blur", 5, 224) == (10, 0.5)
    assert strength("defocus_blur", 5, 448) == (20, 1.0)
    assert strength("defocus_blur", 5, 32) == (1.5, 0.1)
    assert strength("defocus_blur", 5, 64) == (3, 0.2)
    assert strength("snow", 1, 112) == (0.1, 0.3, 1.5, 0.5, 5, 2, 0.8)  # flake, radius, fall
    assert strength("jpeg", 5, 448) == (7,)


def test_blur_means_the_same_at_every_size() -> None:
    """Twice the side, twice the radius: a large picture blurred and then reduced is the small one blurred."""
    large = photos(448)[0]
    small = resize_short(large, 224)
    reduced = resize_short(corrupt(large, "defocus_blur", 3), 224)
    assert distance(reduced, corrupt(small, "defocus_blur", 3)) < 0.15 * distance(
        small, corrupt(small, "defocus_blur", 3)
    )


def test_gaussian_filter_is_scipys() -> None:
    x = photos(96)[0][:70].astype(np.float32) / 255
    for deviation, truncate in ((0.7, 4.0), (3.0, 4.0), (60.0, 3.0)):
        expected = [ndimage.gaussian_filter(x[:, :, c], deviation, truncate=truncate) for c in range(3)]
        np.testing.assert_allclose(filters_of.gaussian(x, deviation, truncate), np.stack(expected, 2), atol=2e-6)


def test_convolution_is_scipys() -> None:
    x = photos(96)[0][:50].astype(np.float32) / 255
    for kernel in (np.random.default_rng(0).random((7, 11)), filters_of.streak(3, 9, 0.6), np.ones((1, 1))):
        expected = [ndimage.convolve(x[:, :, c].astype(float), kernel, mode="reflect") for c in range(3)]
        np.testing.assert_allclose(filters_of.convolve(x, kernel), np.stack(expected, 2), atol=1e-5)


def test_sampling_is_scipys() -> None:
    x = photos(96)[1][:50].astype(np.float32) / 255
    y, x_ = np.random.default_rng(0).uniform(-60, 150, (2, 40, 30))
    expected = [ndimage.map_coordinates(x[:, :, c], (y, x_), order=1, mode="reflect") for c in range(3)]
    np.testing.assert_allclose(filters_of.sample(x, y, x_), np.stack(expected, 2), atol=1e-5)


def test_the_disc_covers_its_area() -> None:
    for radius in (0.3, 0.875, 1.5, 3, 10):
        kernel = _disc(radius)
        assert kernel.sum() == pytest.approx(1)
        assert np.array_equal(kernel, kernel.T)
        assert np.array_equal(kernel, kernel[::-1])
        assert 1 / kernel.max() == pytest.approx(max(1, np.pi * radius**2), rel=0.05, abs=0.1)
    assert _disc(10).shape == (23, 23)
    assert (_disc(10)[np.hypot(*(np.indices((23, 23)) - 11)) > 10.8] == 0).all()


def test_the_streak_is_a_half_gaussian() -> None:
    kernel = filters_of.streak(4, 21, 0.0)
    middle = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert kernel[:middle].sum() == kernel[middle + 2 :].sum() == 0
    along = kernel[middle, middle + 1 : middle + 12]  # the first pixel has only half of its neighbours
    np.testing.assert_allclose(
        along / along[0], np.exp(-0.5 * (np.arange(1, 12) / 4) ** 2) / np.exp(-1 / 32), rtol=0.04
    )


def test_noise_has_its_published_moments() -> None:
    flat = np.full((224, 224, 3), 128, np.uint8)
    value = 128 / 255
    noisy = corrupt(flat, "gaussian_noise", 1) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.02)
    assert noisy.mean() == pytest.approx(value, abs=1e-3)
    counted = corrupt(flat, "shot_noise", 1) / 255
    assert counted.mean() == pytest.approx(value, abs=1e-3)
    assert counted.var() == pytest.approx(value / 60, rel=0.03)
    hit = corrupt(flat, "impulse_noise", 5)
    assert np.mean(hit == 0) == pytest.approx(0.135, abs=5e-3)
    assert np.mean(hit == 255) == pytest.approx(0.135, abs=5e-3)
    assert set(np.unique(hit)) == {0, 128, 255}


def test_brightness_keeps_hue_and_saturation(photo: Pixels) -> None:
    """Against HSV by the standard library, pixel by pixel."""
    import colorsys

    brighter = corrupt(photo, "brightness", 2)
    for pixel, found in zip(photo[::9, ::9].reshape(-1, 3), brighter[::9, ::9].reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        np.testing.assert_allclose(found / 255, colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1)), atol=0.51 / 255)


def test_contrast_shrinks_about_the_mean(photo: Pixels) -> None:
    mean = photo.mean(axis=(0, 1))
    np.testing.assert_allclose(corrupt(photo, "contrast", 4), mean + 0.1 * (photo - mean), atol=0.51)


def test_pixelate_makes_equal_blocks() -> None:
    pixels = photos(224)[0]
    blocks = corrupt(pixels, "pixelate", 5).reshape(56, 4, 56, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_allclose(blocks[:, 0, :, 0], pixels.reshape(56, 4, 56, 4, 3).mean(axis=(1, 3)), atol=1)


def test_glass_only_exchanges_neighbours() -> None:
    """Without its blur, every pixel is one that was near."""
    from resight.evaluation.corruptions.blur import glass_blur

    places = np.arange(40 * 40, dtype=np.float32).reshape(40, 40, 1)
    moved = glass_blur(places, np.random.default_rng(0), 0.0, 2, 3)[:, :, 0].astype(int)
    y, x = np.indices((40, 40))
    assert max(np.abs(moved // 40 - y).max(), np.abs(moved % 40 - x).max()) <= 6
    assert len(np.unique(moved)) < moved.size
    assert np.mean(moved != places[:, :, 0]) > 0.9


def test_zoom_keeps_the_middle() -> None:
    pixels = np.zeros((65, 65, 3), np.uint8)
    pixels[32, 32] = 255
    y, x, _ = np.unravel_index(corrupt(pixels, "zoom_blur", 5).argmax(), pixels.shape)
    assert (y, x) == (32, 32)


def test_clouds_are_in_range_and_rougher_with_less_decay() -> None:
    rough, smooth = (filters_of.cloud(200, 224, decay, np.random.default_rng(0)) for decay in (1.4, 3))
    for field in (rough, smooth):
        assert field.shape == (200, 224)
        assert 0 <= field.min() < 0.2
        assert 0.8 < field.max() <= 1
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(smooth)).mean()


def test_snow_whitens_and_frost_tints(photo: Pixels) -> None:
    assert corrupt(photo, "snow", 5).mean() > photo.mean() + 20
    black = np.zeros((96, 96, 3), np.uint8)
    red, green, blue = corrupt(black, "frost", 3).mean(axis=(0, 1))
    assert blue > green > red > 20
    white = np.full((96, 96, 3), 255, np.uint8)
    assert corrupt(white, "fog", 5).mean() < 255


def test_elastic_without_strength_changes_nothing(photo: Pixels) -> None:
    from resight.evaluation.corruptions.digital import elastic

    x = photo.astype(np.float32) / 255
    np.testing.assert_allclose(elastic(x, np.random.default_rng(0), 0, 0.05, 0), x, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "severity", "seed", "shape"),
    [
        ("rain", 1, 0, (8, 8, 3)),
        ("fog", 0, 0, (8, 8, 3)),
        ("fog", 6, 0, (8, 8, 3)),
        ("fog", True, 0, (8, 8, 3)),
        ("fog", 1, -1, (8, 8, 3)),
        ("fog", 1, 0, (8, 8, 4)),
        ("fog", 1, 0, (8, 8)),
        ("fog", 1, 0, (0, 8, 3)),
    ],
)
def test_what_is_refused(kind: str, severity: int, seed: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        corrupt(np.zeros(shape, np.uint8), kind, severity, seed)
    with pytest.raises(UsageError):
        corrupt(np.zeros((8, 8, 3)), "fog", 1)  # type: ignore[arg-type]
