"""Blocks skipped and swapped, against networks that are changed by hand; what stages see, against gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from resight.models import ResNet, create
from resight.studying.receptive import effective_side, looked_at, receptive_fields
from resight.studying.shortcuts import names, study_blocks

PICTURES, CLASSES = 24, 4
SHORT = (1, 2, 1, 1)  # blocks in each stage: enough to see what is meant


def trained_like(name: str, **options: object) -> tuple[ResNet, list[torch.Tensor], np.ndarray]:
    """A net with statistics of its own, ReLUs that do not overwrite, pictures in two batches, and labels that it
    answers rightly by about half."""
    torch.manual_seed(3)
    net = create(name, num_classes=CLASSES, stem="tiny", **options)
    net.train()(torch.randn(16, 3, 28, 28))
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    images = torch.randn(PICTURES, 3, 28, 28)
    with torch.no_grad():
        labels = net.eval()(images).argmax(1).numpy()
    labels[::2] = (labels[::2] + 1) % CLASSES
    return net, [images[:20], images[20:]], labels.astype(np.int64)


def accuracy(net: nn.Module, batches: list[torch.Tensor], labels: np.ndarray) -> float:
    with torch.no_grad():
        return float((net(torch.cat(batches)).argmax(1).numpy() == labels).mean())


@pytest.mark.parametrize(
    ("name", "options"), [("resnet14", {}), ("seresnet18", {"depths": SHORT}), ("resnet18d", {"depths": SHORT})]
)
def test_a_skipped_block_is_one_whose_branch_is_zero(name: str, options: dict[str, object]) -> None:
    net, batches, labels = trained_like(name, **options)
    whole, found = study_blocks(net, batches, labels)
    assert whole == accuracy(net, batches, labels) == 0.5
    assert [block.name for block in found] == names(net)
    for k, study in enumerate(found):
        changed = copy.deepcopy(net)
        norm = changed.blocks[k].bn2
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        assert study.skipped == accuracy(changed, batches, labels), study.name
    assert len({block.skipped for block in found}) > 1, "the comparison would mean little"


def test_swapped_blocks_are_in_each_others_place() -> None:
    net, batches, labels = trained_like("resnet20")
    _, found = study_blocks(net, batches, labels)
    assert [block.swapped is not None for block in found] == [True, True, False, False, True, False, False, True, False]
    assert [block.changes_shape for block in found] == [k in (3, 6) for k in range(9)]
    for k, study in enumerate(found):
        if study.swapped is not None:
            changed = copy.deepcopy(net)
            stage = changed.stages[k // 3]
            stage[k % 3], stage[k % 3 + 1] = stage[k % 3 + 1], stage[k % 3]
            assert study.swapped == accuracy(changed, batches, labels)


def test_ratios_are_of_what_is_added_to_what() -> None:
    net, batches, labels = trained_like("preact_resnet14")
    _, found = study_blocks(net, batches, labels)
    x, images = None, torch.cat(batches)
    with torch.no_grad():
        x = net._stem(images)
        for block, study in zip(net.blocks, found, strict=True):
            out = block(x)
            shortcut = x if block.downsample is None else block.downsample(x)
            branch = out - shortcut
            norms = [part.flatten(1).norm(dim=1) for part in (branch, shortcut)]
            assert study.ratio == pytest.approx(float((norms[0] / norms[1]).mean()), rel=1e-3)
            size = out[0].numel() ** 0.5
            assert study.branch == pytest.approx(float(norms[0].mean()) / size, rel=1e-3)
            assert study.shortcut == pytest.approx(float(norms[1].mean()) / size, rel=1e-3)
            x = out


def test_plain_blocks_are_left_out_where_shapes_allow() -> None:
    net, batches, labels = trained_like("resnet14_plain")
    _, found = study_blocks(net, batches, labels)
    assert all(block.ratio is None for block in found)
    assert [block.skipped is None for block in found] == [block.changes_shape for block in found]
    changed = copy.deepcopy(net)
    changed.stages[0][1] = nn.Identity()
    assert found[1].skipped == accuracy(changed, batches, labels)


def test_the_network_is_as_before() -> None:
    net, batches, labels = trained_like("resnet8")
    with torch.no_grad():
        before = net(batches[0])
        study_blocks(net, batches, labels)
        assert torch.equal(net(batches[0]), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet14", {}),
        ("resnet14_plain", {}),
        ("preact_resnet14", {}),
        ("resnet8", {"stem": "tiny", "shortcut": "B"}),
        ("resnet18", {"depths": SHORT}),
        ("resnet50", {"depths": SHORT, "stem": "tiny"}),
    ],
)
def test_receptive_fields_are_what_gradients_reach(name: str, options: dict[str, object]) -> None:
    """Of a net that adds up positive numbers all that can matter does: the gradient is not zero exactly there."""
    net = create(name, num_classes=2, **options).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
        elif isinstance(module, nn.ReLU):
            module.inplace = False
    if net.spec.stem == "imagenet":
        net.maxpool = nn.AvgPool2d(3, 2, padding=1)  # of the same kernel: a maximum passes only one gradient on
    fields = receptive_fields(net)
    seen = fields[:3] if name in ("resnet18", "resnet50") else fields
    side = max(64, -(-2 * seen[-1].size // 32) * 32)
    pixels = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    maps = net.double().features(pixels)
    for field in seen:
        out = maps[field.name]
        middle = out.shape[2] // 2
        (gradient,) = torch.autograd.grad(out[0, :, middle, middle].sum(), pixels, retain_graph=True)
        (following,) = torch.autograd.grad(out[0, :, middle, middle + 1].sum(), pixels, retain_graph=True)
        columns = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        assert int(columns.max() - columns.min()) + 1 == field.size, field
        assert int(following[0].abs().sum((0, 1)).nonzero().min() - columns.min()) == field.step, field


def test_without_branches_only_the_shortcuts_way_is_seen() -> None:
    net = create("resnet14", num_classes=2).eval()
    nn.init.ones_(net.conv1.weight)
    for block in net.blocks:
        nn.init.zeros_(block.bn2.weight)
        block.relu.inplace = False
    net.relu.inplace = False
    looked = looked_at(net, torch.ones(1, 3, 56, 56))
    for field in receptive_fields(net):
        assert field.shortest == 3 == effective_side(looked[field.name]), field


def test_what_is_looked_at_lies_within_what_can_be_seen() -> None:
    net, batches, _ = trained_like("resnet14")
    looked = looked_at(net, batches[0])
    for field in receptive_fields(net):
        weights = looked[field.name]
        assert weights.max() == 1.0
        assert 0 < effective_side(weights) <= min(field.size, 28)
