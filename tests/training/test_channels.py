"""Training on pictures of other numbers of channels than one and three: augmentation, statistics, first layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resight.errors import DataError, UsageError
from resight.models import Source, create, load_weights
from resight.recipes.sections import AugmentConfig, DataConfig
from resight.samples import check_files, load
from resight.training import prepare, reading
from resight.training.augment import apply, crop_resized, draw, to_short
from resight.training.channels import channels_of, check_one_number, decide_statistics
from resight.training.policies import OPERATIONS, color_jitter


def pictures(channels: int, count: int = 6, side: int = 16) -> Tensor:
    random = np.random.default_rng(channels)
    return torch.from_numpy(random.integers(0, 256, (count, channels, side, side), dtype=np.uint8))


def planes(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """What ``function`` makes of each channel alone, as a grey picture."""
    return torch.cat([function(batch[:, [k]].contiguous()) for k in range(batch.shape[1])], dim=1)


@pytest.mark.parametrize("channels", [2, 4, 5, 16])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_treats_each_channel_as_a_grey_picture(name: str, channels: int) -> None:
    batch = pictures(channels)
    strength = torch.tensor([0.2, 0.7, 1.0, 1.3, 1.9, 4.0])
    strength = {"posterize": torch.tensor([2.0, 3, 4, 5, 6, 8]), "solarize": strength * 60}.get(name, strength)
    found = OPERATIONS[name](batch, strength)
    assert torch.equal(found, planes(lambda plane: OPERATIONS[name](plane, strength), batch))
    if name == "saturation":
        assert torch.equal(found, batch)  # no colour, nothing to saturate


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_the_whole_augmentation_is_that_of_each_channel(channels: int) -> None:
    batch = pictures(channels)
    config = AugmentConfig(crop="shift", policy="trivial", color=0.4, erasing=0.8)
    drawn = draw(config, 0, 1, np.arange(6))
    assert torch.equal(apply(config, batch, drawn), planes(lambda plane: apply(config, plane, drawn), batch))
    assert not torch.equal(apply(config, batch, drawn), batch)
    jittered = color_jitter(batch, drawn.color)
    assert torch.equal(jittered, planes(lambda plane: color_jitter(plane, drawn.color), batch))


@pytest.mark.parametrize("channels", [2, 4, 5, 16])
@pytest.mark.parametrize("bicubic", [False, True])
def test_random_crops_are_those_of_each_channel(channels: int, bicubic: bool) -> None:
    random = np.random.default_rng(0)
    shapes = [(20, 31), (40, 25), (16, 16), (70, 64)]
    whole = [random.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes]
    config = AugmentConfig()
    drawn = draw(config, 0, 0, np.arange(4))
    found = crop_resized(whole, drawn, config, 16, bicubic)
    alone = [crop_resized([one[:, :, [k]] for one in whole], drawn, config, 16, bicubic) for k in range(channels)]
    assert (found.int() - torch.cat(alone, 1).int()).abs().max() <= 1  # PyTorch's kernels round differently
    small = to_short(whole[3], 20, bicubic)
    assert small.shape == (21, 20, channels)


def source(mean: tuple[float, ...] | None) -> Source:
    return Source({}, "weights", mean=mean, std=None if mean is None else (0.2,) * len(mean))


def decided(channels: int, mean: list[float], weights: Source | None) -> tuple[list[float], list[float]]:
    data = DataConfig(channels=channels)
    data.mean, data.std = mean, [0.2] * len(mean)
    decide_statistics(data, weights)
    return data.mean, data.std


def test_statistics_follow_where_they_mean_something_and_are_measured_elsewhere() -> None:
    assert decided(5, [], None) == ([], [])
    assert decided(3, [], source(None))[0] == [0.485, 0.456, 0.406]
    assert decided(1, [], source(None))[0] == pytest.approx([0.449])
    assert decided(4, [], source(None)) == ([], [])  # ImageNet's say nothing of a fourth channel
    assert decided(4, [0.1, 0.2, 0.3], source((0.1, 0.2, 0.3))) == ([], [])
    assert decided(4, [0.1, 0.2, 0.3, 0.4], source((0.1, 0.2, 0.3, 0.4)))[0] == [0.1, 0.2, 0.3, 0.4]
    assert decided(3, [0.1, 0.2, 0.3, 0.4], source((0.1, 0.2, 0.3, 0.4))) == ([], [])
    for weights in (None, source((0.5, 0.5, 0.5))):
        with pytest.raises(UsageError, match="2 numbers; the pictures have 5 channels"):
            decided(5, [0.1, 0.2], weights)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_a_pretrained_first_layer_keeps_the_size_of_its_answers(channels: int) -> None:
    """Filters are repeated in order and scaled by 3/n: equal channels give what equal RGB gave."""
    torch.manual_seed(0)
    old, new = create("resnet20").eval(), create("resnet20", in_channels=channels).eval()
    plane = torch.randn(2, 1, 32, 32)
    load_weights(new, Source(old.state_dict(), "old"))
    share = sum(old.conv1.weight[:, [k % 3 for k in range(channels)]].unbind(1)) * 3 / channels
    found = new.conv1(plane.expand(-1, channels, -1, -1))
    assert torch.allclose(found, torch.nn.functional.conv2d(plane, share[:, None], padding=1), atol=1e-5)


def arrays(root: Path, numbers: dict[str, int]) -> Path:
    for name, channels in numbers.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
        np.save(root / name, pixels)
    return root


def test_the_number_is_what_the_arrays_have(tmp_path: Path) -> None:
    five = load(arrays(tmp_path / "five", {"a/1.npy": 5, "a/2.npy": 5, "b/1.npy": 5, "b/2.npy": 5}))
    assert channels_of(five) == 5
    mixed = load(arrays(tmp_path / "mixed", {"a/1.npy": 1, "a/2.npy": 3, "b/1.npy": 1, "b/2.npy": 1}))
    assert channels_of(mixed) == 3
    check_one_number(mixed, check_files(mixed, threads=1))  # grey and RGB go together
    assert channels_of(load(arrays(tmp_path / "grey", {"a/1.npy": 1, "b/1.npy": 1}))) == 1


def test_arrays_that_differ_are_named_with_their_numbers(tmp_path: Path) -> None:
    found = arrays(tmp_path, {"a/1.npy": 5, "a/2.npy": 4, "b/1.npy": 5, "b/2.npy": 5})
    samples = load(found, val_fraction=0, test_fraction=0)
    with pytest.raises(DataError, match=r"3 have 5 \(such as a/1.npy\); 1 have 4 \(such as a/2.npy\)"):
        prepare.check(samples, False, print)
    said: list[str] = []
    kept, _ = prepare.check(samples, True, said.append, 5)
    assert len(kept) == 3
    assert "a/2.npy: it has 4 channels; expected 5" in said[0]


def test_each_channel_is_measured() -> None:
    pixels = np.zeros((10, 8, 8, 5), np.uint8)
    pixels[..., 1], pixels[:5, ..., 2], pixels[..., 4] = 255, 255, 51
    mean, std = reading.measure(pixels, 5, 0)  # type: ignore[arg-type]  # a sequence of pictures is enough
    assert mean == [0, 1, 0.5, 0, 0.2]
    assert std == [0.001, 0.001, 0.5, 0.001, 0.001]
