"""Hue, grey and blur of each picture by itself, against slow references."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from resight.errors import UsageError
from resight.recipes.sections import AugmentConfig
from resight.training.augment import BLUR, apply, draw
from resight.training.policies import blur, turn_colours
from resight.training.prepare import configure

from .tiny import load, write_patterns

RANDOM = np.random.default_rng(5)


def pictures(count: int = 4, side: int = 20) -> torch.Tensor:
    return torch.from_numpy(RANDOM.integers(0, 256, (count, 3, side, side)).astype(np.uint8))


def luma(batch: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bchw,c->bhw", batch.double(), torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))


def test_a_turned_hue_keeps_luma_and_greys_and_turns_back() -> None:
    muted = (pictures().float() / 4 + 96).to(torch.uint8)  # nothing is clipped
    turned = turn_colours(muted, np.array([[0.25, 0.0]] * 4))
    assert (luma(turned) - luma(muted)).abs().max() <= 1
    assert not torch.equal(turned, muted)
    back = turn_colours(turned, np.array([[-0.25, 0.0]] * 4))
    assert (back.int() - muted.int()).abs().max() <= 2
    grey = muted[:, :1].expand(-1, 3, -1, -1).contiguous()
    assert (turn_colours(grey, np.array([[0.3, 0.0]] * 4)).int() - grey.int()).abs().max() <= 1


def test_a_turn_moves_the_hue_the_same_way_as_in_hsv() -> None:
    red = torch.tensor([[200, 100, 100]], dtype=torch.uint8).view(1, 3, 1, 1)
    for part in (1 / 12, -1 / 12):
        r, g, b = (turn_colours(red, np.array([[part, 0.0]])).flatten() / 255).tolist()
        hue = colorsys.rgb_to_hsv(r, g, b)[0]
        assert min(abs(hue - part % 1), 1 - abs(hue - part % 1)) < 0.06


def test_without_colours_only_the_luma_is_left() -> None:
    some = pictures()
    found = turn_colours(some, np.array([[0.1, 1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(found[1], some[1])
    for k in (0, 2):
        for channel in range(3):
            assert (found[k, channel].double() - luma(some)[k]).abs().max() <= 1


def test_blur_against_scipy_and_each_picture_by_itself() -> None:
    some = pictures(3)
    found = blur(some, np.array([0.04, 0.0, 0.08]))
    assert torch.equal(found[1], some[1])
    for k, sigma in ((0, 0.8), (2, 1.6)):
        wanted = np.stack([gaussian_filter(c.astype(float), sigma, mode="mirror", radius=5) for c in some[k].numpy()])
        assert np.abs(found[k].numpy() - wanted).max() <= 1
    alone = blur(some[2:], np.array([0.08]))
    assert (alone[0].int() - found[2].int()).abs().max() <= 1
    assert torch.equal(blur(some, np.zeros(3)), some)


def test_shares_are_what_was_asked_for_and_old_draws_stay() -> None:
    indices = np.arange(4000)
    config = AugmentConfig(color=0.4, hue=0.1, color_share=0.8, gray=0.2, blur=0.5)
    found = draw(config, 0, 0, indices)
    coloured = (found.color != 1).any(axis=1)
    assert coloured.mean() == pytest.approx(0.8, abs=0.03)
    np.testing.assert_array_equal(found.tint[:, 0] != 0, coloured)
    assert found.tint[:, 1].mean() == pytest.approx(0.2, abs=0.03)
    assert (found.blur > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert BLUR[0] <= found.blur[found.blur > 0].min() <= found.blur.max() <= BLUR[1]
    plain = draw(AugmentConfig(color=0.4), 0, 0, indices)
    np.testing.assert_array_equal(found.color[coloured], plain.color[coloured])
    np.testing.assert_array_equal(found.crop, plain.crop)


def test_grey_pictures_have_no_hue() -> None:
    grey = pictures()[:, :1]
    config = AugmentConfig(crop="none", flip="none", hue=0.5, gray=1.0)
    assert torch.equal(apply(config, grey, draw(config, 0, 0, np.arange(4))), grey)


def test_a_blur_that_would_round_to_nothing_is_refused(tmp_path: Path) -> None:
    samples = load(write_patterns(tmp_path / "data", 4))
    sizes = np.full((12, 2), 28)
    with pytest.raises(UsageError, match="at most 1 % of the side"):
        configure(samples, sizes, {"augment.blur": 0.5, "device": "cpu"}, None)
