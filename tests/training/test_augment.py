"""Augmentation: drawing is a pure function of the picture, applying one of its pixels and parameters."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from resight.images import resize_short
from resight.recipes.sections import AugmentConfig
from resight.training.augment import (
    Mix,
    Parameters,
    apply,
    crop_resized,
    draw,
    draw_mix,
    mix,
    one_hot,
    random_box,
    to_short,
)

NOTHING = AugmentConfig(crop="none", flip="none")
EVERYTHING = AugmentConfig(crop="shift", shift=3, policy="rand", color=0.4, erasing=0.5)
KINDS = {
    "nothing": NOTHING,
    "zero shift": AugmentConfig(crop="shift", shift=4, shift_padding="zero"),
    "mirrored shift": AugmentConfig(crop="shift", shift=4),
    "trivial": AugmentConfig(crop="none", policy="trivial"),
    "rand": AugmentConfig(crop="none", policy="rand", rand_count=3, rand_magnitude=20),
    "color": AugmentConfig(crop="none", color=0.5),
    "erasing": AugmentConfig(crop="none", erasing=0.5),
    "everything": EVERYTHING,
}


def pictures(count: int, channels: int = 3, side: int = 16, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, channels, side, side), dtype=np.uint8))


def rows(parameters: Parameters, chosen: object) -> Parameters:
    return Parameters(**{f.name: getattr(parameters, f.name)[chosen] for f in fields(Parameters)})


def same(first: Parameters, second: Parameters) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Parameters))


# ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_do_not_depend_on_the_batch_or_its_order(kind: str) -> None:
    indices = np.array([9, 3, 70_000, 0, 12])
    together = draw(KINDS[kind], 5, 2, indices)
    for position, index in enumerate(indices):
        alone = draw(KINDS[kind], 5, 2, np.array([index]))
        assert same(alone, rows(together, slice(position, position + 1)))
    order = np.array([4, 0, 3, 1, 2])
    assert same(draw(KINDS[kind], 5, 2, indices[order]), rows(together, order))


def test_parameters_change_with_seed_and_epoch() -> None:
    indices = np.arange(50)
    first = draw(EVERYTHING, 0, 0, indices)
    assert same(first, draw(EVERYTHING, 0, 0, indices))
    assert not same(first, draw(EVERYTHING, 1, 0, indices))
    assert not same(first, draw(EVERYTHING, 0, 1, indices))


def test_parameters_have_the_configured_distributions() -> None:
    count = 20_000
    drawn = draw(AugmentConfig(shift=2, color=0.3, erasing=0.2), 0, 0, np.arange(count))
    assert abs(drawn.flip.mean() - 0.5) < 5 * 0.5 / np.sqrt(count)
    assert abs(drawn.erase[:, 0].mean() - 0.2) < 5 * 0.4 / np.sqrt(count)
    for axis in (0, 1):
        values, counts = np.unique(drawn.shift[:, axis], return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert np.abs(counts - count / 5).max() < 5 * np.sqrt(count * 0.16)
    assert drawn.color.min() >= 0.7
    assert drawn.color.max() <= 1.3
    np.testing.assert_allclose(drawn.color.mean(axis=0), 1, atol=5 * 0.3 / np.sqrt(3 * count))
    assert not draw(NOTHING, 0, 0, np.arange(100)).flip.any()


# ── applying ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_changed_alike_in_any_batch(kind: str, channels: int) -> None:
    config, batch = KINDS[kind], pictures(40, channels)
    parameters = draw(config, 1, 0, np.arange(40))
    together = apply(config, batch, parameters)
    assert together.dtype == torch.uint8
    assert together.shape == batch.shape
    for i in range(40):
        alone = apply(config, batch[i : i + 1], rows(parameters, slice(i, i + 1)))
        assert torch.equal(alone[0], together[i])
    # The loader's batches are channels-last in memory; the values are the same.
    last = apply(config, batch.contiguous(memory_format=torch.channels_last), parameters)
    assert torch.equal(last, together)


def test_the_input_is_not_written_to() -> None:
    batch = pictures(40)
    before = batch.clone()
    changed = apply(EVERYTHING, batch, draw(EVERYTHING, 1, 0, np.arange(40)))
    assert torch.equal(batch, before)
    assert not torch.equal(changed, before)


def test_nothing_changes_nothing() -> None:
    batch = pictures(4)
    assert torch.equal(apply(NOTHING, batch, draw(NOTHING, 0, 0, np.arange(4))), batch)


def slow_shift(picture: NDArray[np.uint8], right: int, down: int, reflect: bool) -> NDArray[np.uint8]:
    """Pixel by pixel: the picture (C, S, S) moved right and down."""
    out = np.zeros_like(picture)
    side = picture.shape[1]
    for y in range(side):
        for x in range(side):
            sy, sx = y - down, x - right
            if reflect:
                sy, sx = (abs(s) if s < side else 2 * (side - 1) - s for s in (sy, sx))
            if 0 <= sy < side and 0 <= sx < side:
                out[:, y, x] = picture[:, sy, sx]
    return out


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_shift_against_a_slow_reference(channels: int, reflect: bool) -> None:
    config = AugmentConfig(crop="shift", shift=4, flip="none", shift_padding="reflect" if reflect else "zero")
    batch = pictures(30, channels, side=9)
    parameters = draw(config, 0, 0, np.arange(30))
    moved = apply(config, batch, parameters).numpy()
    for picture, (right, down), result in zip(batch.numpy(), parameters.shift, moved, strict=True):
        np.testing.assert_array_equal(result, slow_shift(picture, int(right), int(down), reflect))


def test_shift_is_pad_and_crop_as_in_the_paper() -> None:
    config = AugmentConfig(crop="shift", shift=4, shift_padding="zero", flip="none")
    batch = pictures(1, side=8)
    padded = torch.nn.functional.pad(batch, (4, 4, 4, 4))
    for right in range(-4, 5):
        parameters = replace(draw(config, 0, 0, np.arange(1)), shift=np.array([[right, 1]]))
        expected = padded[:, :, 4 - 1 : 12 - 1, 4 - right : 12 - right]
        assert torch.equal(apply(config, batch, parameters), expected)


def test_flip_mirrors_left_and_right() -> None:
    config = AugmentConfig(crop="none")
    batch = pictures(20)
    parameters = draw(config, 0, 0, np.arange(20))
    assert 0 < parameters.flip.sum() < 20
    for picture, flip, result in zip(batch.numpy(), parameters.flip, apply(config, batch, parameters), strict=True):
        np.testing.assert_array_equal(result, picture[:, :, ::-1] if flip else picture)


def test_erasing_fills_a_rectangle_of_the_papers_size_with_the_mean() -> None:
    config = AugmentConfig(crop="none", flip="none", erasing=0.5)
    side, count = 32, 400
    batch = pictures(count, side=side)
    parameters = draw(config, 0, 0, np.arange(count))
    erased = apply(config, batch, parameters).numpy()
    for picture, row, result in zip(batch.numpy(), parameters.erase, erased, strict=True):
        mean = np.round(picture.astype(np.float64).mean(axis=(1, 2)))
        changed = (result != picture).any(axis=0)
        if not row[0]:
            assert not changed.any()
            continue
        ys, xs = np.nonzero(changed)
        inside = result[:, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        np.testing.assert_array_equal(inside, np.broadcast_to(mean[:, None, None], inside.shape))
        height, width = inside.shape[1:]
        # Edges that happened to hold the mean already are not seen as changed: one pixel of slack each.
        assert 0.02 * side**2 - (height + width + 1) <= height * width <= side**2 / 3 + (height + width + 1)
        # Aspect 0.3 to 3.3, each side rounded to a pixel; clipped to the picture where it would not fit.
        assert (height - 1.5) / (width + 1.5) <= 3.3
        assert (height + 1.5) / (width - 1.5 if width > 2 else 0.5) >= 0.3


# ── random resized crops ───────────────────────────────────────────────────────────────────────────────────────

unit = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 3000), st.integers(1, 3000), st.lists(unit, min_size=4, max_size=4), unit, unit)
@settings(deadline=None)
def test_boxes_lie_inside_the_picture(height: int, width: int, u: list[float], a: float, b: float) -> None:
    low, high = sorted((0.01 + 0.99 * a, 0.01 + 0.99 * b))
    config = AugmentConfig(scale_min=low, scale_max=high)
    left, top, right, bottom = random_box(height, width, np.array(u), config)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    share = (right - left) * (bottom - top) / (height * width)
    assert share <= high * (1 + 1e-9)
    aspect = (right - left) / (bottom - top)
    assert 3 / 4 - 1e-6 <= aspect <= 4 / 3 + 1e-6


def test_boxes_have_the_configured_areas_and_aspects() -> None:
    config = AugmentConfig(scale_min=0.1, scale_max=0.4)  # in a square every such box fits
    crop = draw(config, 0, 0, np.arange(4000)).crop
    boxes = np.array([random_box(1000, 1000, u, config) for u in crop])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas = width * height / 1e6
    np.testing.assert_allclose(areas, 0.1 + 0.3 * crop[:, 0], rtol=1e-9)
    logs = np.log(width / height)
    assert abs(logs.mean()) < 5 * np.log(4 / 3) / np.sqrt(3 * 4000)
    assert np.abs(logs).max() <= np.log(4 / 3) + 1e-9


def crops(u: NDArray[np.float64], flip: bool = False) -> Parameters:
    """Parameters with these uniforms for the crops, everything else left alone."""
    none = draw(NOTHING, 0, 0, np.arange(max(1, len(u))))
    return replace(none, crop=u, flip=np.full(len(u), flip))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bicubic", [False, True])
def test_a_crop_is_pillows_resize_of_the_box(channels: int, bicubic: bool) -> None:
    config = AugmentConfig(scale_min=0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, channels), dtype=np.uint8)
    u = np.array([0.3, 0.8, 0.5, 0.25])
    box = tuple(map(round, random_box(40, 50, u, config)))
    batch = crop_resized([pixels], crops(u[None]), config, 28, bicubic)
    assert (batch.shape, batch.dtype) == ((1, channels, 28, 28), torch.uint8)
    ours = batch[0].permute(1, 2, 0).numpy().astype(int)
    method = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    for c in range(channels):
        theirs = Image.fromarray(pixels[:, :, c]).crop(box).resize((28, 28), method)
        difference = np.abs(ours[:, :, c] - np.asarray(theirs))  # two ways of rounding fixed-point weights
        assert difference.max() <= (5 if bicubic else 1)
        assert difference.mean() < 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bicubic", [False, True])
def test_crops_are_torchs_own_and_do_not_depend_on_the_batch(channels: int, bicubic: bool) -> None:
    random = np.random.default_rng(1)
    config = AugmentConfig(scale_min=0.05)
    shapes = [(40, 50), (1, 1), (1, 90), (300, 20), (64, 64)]
    pixels = [random.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes]
    for picture in pixels:
        picture.flags.writeable = False  # as pictures on the disk are
    u = random.random((len(pixels), 4))
    batch = crop_resized(pixels, crops(u), config, 24, bicubic)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for number, picture in enumerate(pixels):
        alone = crop_resized([picture], crops(u[number : number + 1]), config, 24, bicubic)
        assert torch.equal(batch[number : number + 1], alone)
    left, top, right, bottom = map(round, random_box(40, 50, u[0], config))
    part = torch.from_numpy(pixels[0][top:bottom, left:right].copy()).permute(2, 0, 1)[None]
    mode = "bicubic" if bicubic else "bilinear"
    assert torch.equal(batch[:1], F.interpolate(part, (24, 24), mode=mode, antialias=True))
    mirrored = crop_resized(pixels, crops(u, flip=True), config, 24, bicubic)
    assert torch.equal(mirrored, batch.flip(3))
    with pytest.raises(ValueError, match="at least one"):
        crop_resized([], crops(u[:0]), config, 24, bicubic)


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shortened_as_for_answering(channels: int, bicubic: bool) -> None:
    random = np.random.default_rng(1)
    for shape in ((80, 120), (120, 80), (200, 75), (3, 900)):
        pixels = random.integers(0, 256, (*shape, channels), dtype=np.uint8)
        found, expected = to_short(pixels, 40, bicubic), resize_short(pixels, 40, "bicubic" if bicubic else "bilinear")
        if min(shape) <= 50:
            assert found is pixels
        else:
            assert found.shape == expected.shape
            difference = np.abs(found.astype(int) - expected)
            assert difference.max() <= (5 if bicubic else 1)
            assert difference.mean() < 0.5


def test_mirroring_changes_the_chosen_pictures_only() -> None:
    batch, config = pictures(9, 3, 150), AugmentConfig(crop="none", flip="random")
    before, parameters = batch.clone(), draw(config, 0, 0, np.arange(9))
    assert 0 < parameters.flip.sum() < 9
    for layout in (batch, batch.contiguous(memory_format=torch.channels_last)):
        found = apply(config, layout, parameters)
        for number, mirrored in enumerate(parameters.flip):
            assert torch.equal(found[number], before[number].flip(2) if mirrored else before[number])
    assert torch.equal(batch, before)


# ── mixing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_mixup_is_a_weighted_mean_with_the_reverse_order() -> None:
    images, targets = torch.rand(5, 3, 8, 8), one_hot(torch.arange(5), 5, 0.0)
    mixed, labels = mix(images, targets, Mix("mixup", 0.3))
    for i in range(5):
        torch.testing.assert_close(mixed[i], 0.3 * images[i] + 0.7 * images[4 - i])
        torch.testing.assert_close(labels[i], 0.3 * targets[i] + 0.7 * targets[4 - i])
    torch.testing.assert_close(labels.sum(1), torch.ones(5))


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_weighs_labels_by_the_pixels_that_were_replaced(seed: int) -> None:
    how = draw_mix(AugmentConfig(cutmix=1.0), seed, 3)
    assert how is not None
    assert how.kind == "cutmix"
    side = 16
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, side, side).contiguous()
    mixed, labels = mix(images, one_hot(torch.arange(4), 4, 0.0), how)
    assert torch.equal(images, torch.arange(4.0)[:, None, None, None].expand(4, 3, side, side))
    for i in range(4):
        own = (mixed[i, 0] == i).float().mean()
        other = (mixed[i, 0] == 3 - i).float().mean()
        assert own + other == 1
        torch.testing.assert_close(labels[i, i], own)
        torch.testing.assert_close(labels[i, 3 - i], other)


def test_mixes_are_drawn_from_their_beta_distribution_for_each_step() -> None:
    assert draw_mix(AugmentConfig(), 0, 0) is None
    both = [draw_mix(AugmentConfig(mixup=0.2, cutmix=1.0), 0, step) for step in range(2000)]
    assert [how for how in both if how] == both
    assert both[7] == draw_mix(AugmentConfig(mixup=0.2, cutmix=1.0), 0, 7)
    assert both[7] != draw_mix(AugmentConfig(mixup=0.2, cutmix=1.0), 1, 7)
    cut = np.array([how.weight for how in both if how and how.kind == "cutmix"])
    blend = np.array([how.weight for how in both if how and how.kind == "mixup"])
    assert abs(len(cut) - 1000) < 5 * np.sqrt(500)
    for weights, alpha in ((cut, 1.0), (blend, 0.2)):
        variance = 1 / (4 * (2 * alpha + 1))  # of Beta(α, α)
        assert abs(weights.mean() - 0.5) < 5 * np.sqrt(variance / len(weights))
        np.testing.assert_allclose(weights.var(), variance, rtol=0.15)


def test_smoothed_labels() -> None:
    smooth = one_hot(torch.tensor([2, 0]), 4, 0.2)
    torch.testing.assert_close(smooth, torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))
