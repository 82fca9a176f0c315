"""Each operation against Pillow's: the same formula; where Pillow truncates what is rounded here, one level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from resight.recipes.sections import AugmentConfig
from resight.training import policies
from resight.training.augment import apply, draw
from resight.training.policies import GEOMETRIC, NAMES, OPERATIONS, color_jitter, strength_of

Pixels = NDArray[np.uint8]
SIDE = 20


def pictures(channels: int) -> Tensor:
    """Noise, a smooth gradient, few levels, a constant: (4, C, S, S)."""
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (channels, SIDE, SIDE))
    ramp = np.linspace(30, 200, SIDE * SIDE).reshape(1, SIDE, SIDE) + 10 * np.arange(channels)[:, None, None]
    few = random.integers(2, 5, (channels, SIDE, SIDE)) * 40
    flat = np.full((channels, SIDE, SIDE), 77)
    return torch.from_numpy(np.stack([noise, ramp, few, flat]).astype(np.uint8))


def pillow(picture: Tensor) -> Image.Image:
    pixels = picture.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def array(image: Image.Image) -> NDArray[np.int64]:
    """int64 (C, S, S)."""
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1).astype(np.int64)


def both(name: str, channels: int, strength: float, other: Callable[[Image.Image], Image.Image]) -> int:
    """The largest difference between the operation and Pillow's, over the pictures."""
    batch = pictures(channels)
    ours = OPERATIONS[name](batch, torch.full((len(batch),), strength)).numpy().astype(np.int64)
    return max(int(np.abs(ours[i] - array(other(pillow(batch[i])))).max()) for i in range(len(batch)))


FACTORS = [0.01, 0.3, 0.77, 1.0, 1.4, 1.99]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_contrast_saturation_within_a_level_of_pillow(channels: int, factor: float) -> None:
    # Pillow truncates the blend, and its grey and its mean are whole numbers: up to one level each, times
    # how far the factor is from 1.
    assert both("brightness", channels, factor, lambda i: ImageEnhance.Brightness(i).enhance(factor)) <= 1
    slack = 1 + int(np.ceil(abs(1 - factor)))
    assert both("contrast", channels, factor, lambda i: ImageEnhance.Contrast(i).enhance(factor)) <= slack
    if channels == 3:
        assert both("saturation", 3, factor, lambda i: ImageEnhance.Color(i).enhance(factor)) <= slack


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_within_a_level_of_pillow(channels: int, factor: float) -> None:
    # Pillow rounds the smoothed picture before it blends.
    slack = 1 + int(np.ceil(abs(1 - factor)))
    assert both("sharpness", channels, factor, lambda i: ImageEnhance.Sharpness(i).enhance(factor)) <= slack


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_blends_follow_the_formula_exactly(name: str) -> None:
    """Against the same thing in float64, written per picture: other + f · (picture − other), rounded."""
    batch, factor = pictures(3), 1.37
    ours = OPERATIONS[name](batch, torch.full((4,), factor)).numpy()
    for picture, result in zip(batch.numpy().astype(np.float64), ours, strict=True):
        gray = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
        if name == "sharpness":
            other = picture.copy()
            for y in range(1, SIDE - 1):
                for x in range(1, SIDE - 1):
                    window = picture[:, y - 1 : y + 2, x - 1 : x + 2].sum(axis=(1, 2))
                    other[:, y, x] = (window + 4 * picture[:, y, x]) / 13
        else:
            other = {"brightness": 0 * gray, "contrast": np.full_like(gray, gray.mean()), "saturation": gray}[name][
                None
            ]
        exact = np.clip(other + factor * (picture - other), 0, 255)
        assert np.abs(result - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_posterize_solarize_autocontrast_equalize_are_pillows(channels: int) -> None:
    for bits in range(1, 9):
        assert both("posterize", channels, bits, lambda i, bits=bits: ImageOps.posterize(i, bits)) == 0  # type: ignore[misc]
    for threshold in (0, 1, 100.5, 128, 255, 256):
        # "At or above the threshold" is what both say; Pillow compares each level 0 … 255 with it.
        assert both("solarize", channels, threshold, lambda i, t=threshold: ImageOps.solarize(i, t)) == 0  # type: ignore[misc]
    assert both("autocontrast", channels, 0, ImageOps.autocontrast) <= 1  # float32 here, float64 there, both floored
    assert both("equalize", channels, 0, ImageOps.equalize) == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", GEOMETRIC)
@pytest.mark.parametrize("strength", [-0.3, 0.0, 0.25])
def test_geometry_against_pillows_affine(kind: str, strength: float, channels: int) -> None:
    """Pillow's bilinear resampling of the same output-to-input matrix, in pixels about the middle."""
    strength = strength * 100 if kind == "rotate" else strength
    if kind.startswith("translate"):
        strength = round(strength * SIDE) / SIDE
    batch = pictures(channels)
    matrix = np.array(policies._geometry(kind, strength))
    ours = policies._affine(batch, np.repeat(matrix[None], len(batch), axis=0)).numpy().astype(np.int64)
    (a, b, shift_x), (d, e, shift_y) = matrix
    middle = SIDE / 2
    c = middle + shift_x * SIDE / 2 - a * middle - b * middle
    f = middle + shift_y * SIDE / 2 - d * middle - e * middle
    for picture, result in zip(batch, ours, strict=True):
        theirs = array(
            pillow(picture).transform(
                (SIDE, SIDE), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
            )
        )
        difference = np.abs(result - theirs)
        # At the border Pillow repeats the last pixel or stops; here the picture fades into black.
        source = matrix[:, :2] @ (np.mgrid[:SIDE, :SIDE][::-1].reshape(2, -1) + 0.5 - middle) / middle + matrix[:, 2:]
        inner = (np.abs(source).max(axis=0) < 1 - 2 / SIDE).reshape(SIDE, SIDE)
        assert inner.sum() > 50
        assert difference[:, inner].max() <= 1


def test_strength_zero_changes_nothing() -> None:
    batch = pictures(3)
    for name in NAMES:
        if name in ("autocontrast", "equalize"):
            continue  # they have no strength
        for wide in (False, True):
            strength = strength_of(name, 0.0, 0.7, wide)
            if name in GEOMETRIC:
                changed = policies._affine(batch, np.repeat([policies._geometry(name, strength)], 4, axis=0))
            elif name in OPERATIONS:
                changed = OPERATIONS[name](batch, torch.full((4,), strength))
            else:
                continue
            assert torch.equal(changed, batch), name


def test_strengths_reach_the_published_ranges() -> None:
    """TrivialAugment's table 1 (wide), RandAugment's ranges as in torchvision."""
    for wide, rotate, shear, factor, bits in ((True, 135, 0.99, 0.99, 2), (False, 30, 0.3, 0.9, 4)):
        assert [strength_of("rotate", 1, sign, wide) for sign in (0.2, 0.8)] == [-rotate, rotate]
        assert strength_of("shear_x", 1, 0.8, wide) == shear
        assert strength_of("brightness", 1, 0.8, wide) == 1 + factor
        assert strength_of("contrast", 1, 0.2, wide) == pytest.approx(1 - factor)
        assert strength_of("posterize", 1, 0.2, wide) == bits
        assert strength_of("solarize", 1, 0.2, wide) == 0


def test_every_operation_is_drawn_equally_often() -> None:
    count = 28_000
    u = draw(AugmentConfig(policy="trivial"), 0, 0, np.arange(count)).policy[:, 0]
    chosen = np.bincount((u[:, 0] * len(NAMES)).astype(int), minlength=len(NAMES))
    expected = count / len(NAMES)
    assert np.abs(chosen - expected).max() < 5 * np.sqrt(expected)


def test_rand_applies_the_configured_number_of_operations() -> None:
    config = AugmentConfig(crop="none", flip="none", policy="rand", rand_count=1, rand_magnitude=15)
    batch = pictures(3)[:1].expand(300, -1, -1, -1)
    once = draw(config, 0, 0, np.arange(300))
    assert once.policy.shape == (300, 1, 3)
    results = apply(config, batch, once)
    for chosen, sign, result in zip(once.policy[:, 0, 0], once.policy[:, 0, 2], results, strict=True):
        name = NAMES[int(chosen * len(NAMES))]
        strength = strength_of(name, 0.5, sign, wide=False)
        if name in GEOMETRIC:
            expected = policies._affine(batch[:1], np.array([policies._geometry(name, strength)]))
        elif name in OPERATIONS:
            expected = OPERATIONS[name](batch[:1], torch.tensor([strength]))
        else:
            expected = batch[:1]
        assert torch.equal(result, expected[0]), name


def test_color_is_brightness_then_contrast_then_saturation() -> None:
    batch = pictures(3)
    factors = np.array([[1.2, 0.7, 1.5]] * 4)
    expected = [
        ImageEnhance.Color(
            ImageEnhance.Contrast(ImageEnhance.Brightness(pillow(picture)).enhance(1.2)).enhance(0.7)
        ).enhance(1.5)
        for picture in batch
    ]
    ours = color_jitter(batch, factors).numpy().astype(np.int64)
    for result, theirs in zip(ours, expected, strict=True):
        assert np.abs(result - array(theirs)).max() <= 4  # three roundings, each up to one level and amplified
    gray = pictures(1)
    changed = color_jitter(gray, np.array([[1.0, 1.0, 1.9]] * 4))
    assert torch.equal(changed, gray)  # grey has no saturation
