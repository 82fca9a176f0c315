"""The blocks against slow, literal references, and what they are initialised with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.errors import UsageError
from resight.models import create, zero_gamma
from resight.models.blocks import (
    BasicBlock,
    BlockOptions,
    Bottleneck,
    PreActBasicBlock,
    PreActBottleneck,
    ShortcutKind,
)
from resight.models.layers import PadShortcut, SqueezeExcitation, StochasticDepth

BLOCKS = [BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck]


def options(shortcut: ShortcutKind = "B") -> BlockOptions:
    return BlockOptions(shortcut, "3x3", 1, 64, squeeze_excitation=False)


def shaken(module: nn.Module) -> nn.Module:
    """Gives norms something to do: random scales, shifts and statistics."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


@pytest.mark.parametrize("stride", [1, 2])
def test_preactivation_blocks_equal_the_paper_written_out(stride: int) -> None:
    """He et al. 2016, figure 1b: x + W2 relu(bn2(W1 relu(bn1(x)))); a projection starts from relu(bn1(x))."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 9)
    block = shaken(PreActBasicBlock(8, 16, stride, options(), 0.0)).eval()
    first = torch.clamp(norm(block.bn1, x), min=0)
    second = torch.clamp(norm(block.bn2, F.conv2d(first, block.conv1.weight, None, stride, 1)), min=0)
    expected = F.conv2d(second, block.conv2.weight, None, 1, 1)
    expected = expected + F.conv2d(first, block.downsample[0].weight, None, stride)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)

    deep = shaken(PreActBottleneck(32, 8, 1, options(), 0.0)).eval()
    x = torch.randn(2, 32, 9, 9)
    out = F.conv2d(torch.clamp(norm(deep.bn1, x), min=0), deep.conv1.weight)
    out = F.conv2d(torch.clamp(norm(deep.bn2, out), min=0), deep.conv2.weight, None, 1, 1)
    out = F.conv2d(torch.clamp(norm(deep.bn3, out), min=0), deep.conv3.weight)
    torch.testing.assert_close(deep(x), x + out, atol=1e-5, rtol=1e-5)


def test_stride_of_the_bottleneck_sits_where_the_spec_says() -> None:
    for stride_on, name in [("3x3", "conv2"), ("1x1", "conv1")]:
        for block in (b for n in ("resnet50", "preact_resnet50") for b in create(n, stride_on=stride_on).blocks):
            strided = {n for n in ("conv1", "conv2", "conv3") if getattr(block, n).stride == (2, 2)}
            assert strided in (set(), {name})


def test_option_a_subsamples_and_pads_with_zeros() -> None:
    x = torch.randn(2, 4, 7, 7)
    out = PadShortcut(4, 9, 2)(x)
    assert out.shape == (2, 9, 4, 4)
    for row in range(4):
        for column in range(4):
            assert torch.equal(out[:, 2:6, row, column], x[:, :, 2 * row, 2 * column])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()
    assert not list(PadShortcut(4, 9, 2).parameters())


def test_option_b_and_d_project_and_option_a_costs_nothing() -> None:
    counts = {kind: create("resnet20", shortcut=kind, num_classes=10) for kind in ("A", "B", "D", "none")}
    sizes = {kind: sum(p.numel() for p in net.parameters()) for kind, net in counts.items()}
    assert sizes["A"] == sizes["none"]
    assert sizes["B"] == sizes["D"] == sizes["A"] + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    x = torch.randn(1, 16, 5, 5)
    pooled = counts["D"].layer2[0].downsample[0](x)
    assert pooled.shape == (1, 16, 3, 3)
    torch.testing.assert_close(pooled[0, :, 0, 0], x[0, :, :2, :2].mean((1, 2)))
    torch.testing.assert_close(pooled[0, :, 2, 2], x[0, :, 4, 4])  # padding is not averaged in


def test_squeeze_excitation_equals_loops() -> None:
    torch.manual_seed(0)
    gate = SqueezeExcitation(32)
    x = torch.randn(2, 32, 3, 5)
    w1, w2 = gate.fc1.weight[:, :, 0, 0], gate.fc2.weight[:, :, 0, 0]
    assert w1.shape == (8, 32)
    out = gate(x)
    for picture in range(2):
        means = torch.stack([x[picture, c].sum() / 15 for c in range(32)])
        hidden = torch.clamp(w1 @ means + gate.fc1.bias, min=0)
        scales = 1 / (1 + torch.exp(-(w2 @ hidden + gate.fc2.bias)))
        for channel in range(32):
            torch.testing.assert_close(out[picture, channel], x[picture, channel] * scales[channel])
    assert SqueezeExcitation(512).fc1.out_channels == 32


def test_squeeze_excitation_uses_timms_names() -> None:
    """timm's SEModule: convolutions fc1 and fc2 with biases, under each block's ``se``."""
    net = create("seresnet18")
    names = {name for name, _ in net.layer1[0].named_parameters() if name.startswith("se.")}
    assert names == {"se.fc1.weight", "se.fc1.bias", "se.fc2.weight", "se.fc2.bias"}


def test_resnet_d_uses_timms_names() -> None:
    """timm's deep stem is conv1.0 … conv1.6, its averaging shortcut has three parts, the first bare."""
    keys = set(create("resnet50d").state_dict())
    assert {"conv1.0.weight", "conv1.1.weight", "conv1.3.weight", "conv1.4.weight", "conv1.6.weight"} <= keys
    assert not {k for k in keys if k.startswith("conv1.") and k.split(".")[1] in "257"}
    for layer in (1, 2, 3, 4):
        assert {f"layer{layer}.0.downsample.1.weight", f"layer{layer}.0.downsample.2.weight"} <= keys
        assert f"layer{layer}.0.downsample.0.weight" not in keys


@pytest.mark.parametrize("block_type", BLOCKS)
def test_zero_gamma_makes_a_block_its_shortcut(block_type: type) -> None:
    torch.manual_seed(0)
    width = 8 * block_type.expansion
    block = block_type(width, 8, 1, options(), 0.0)
    nn.init.zeros_(block.last)
    x = torch.randn(2, width, 6, 6).relu()  # what leaves a block of 2015 is never negative
    assert torch.equal(block(x.clone()), x)


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "preact_resnet20x", "resnet50", "preact_resnet50"])
def test_zero_gamma_makes_every_block_its_shortcut(name: str) -> None:
    net = create(name.replace("preact_resnet20x", "preact_resnet18"), num_classes=4)
    zero_gamma(net)
    for block in net.blocks:
        if block.downsample is None:
            x = torch.randn(2, block.conv1.in_channels, 4, 4).relu()
            assert torch.equal(block(x.clone()), x)


def test_zero_gamma_refuses_plain_networks() -> None:
    with pytest.raises(UsageError, match="shortcuts"):
        zero_gamma(create("resnet20_plain"))


@pytest.mark.parametrize("name", ["resnet50", "seresnet18", "resnet18d", "preact_resnet18"])
def test_he_initialisation(name: str) -> None:
    """He et al. 2015b: standard deviation sqrt(2/fan_out), fan_out = out_channels · k² / groups here."""
    torch.manual_seed(0)
    net = create(name)
    checked = 0
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            expected = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            tolerance = 5 * expected / math.sqrt(2 * module.weight.numel())
            assert abs(module.weight.std().item() - expected) < tolerance
            assert abs(module.weight.mean().item()) < 5 * expected / math.sqrt(module.weight.numel())
            checked += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not bool(module.bias.any())
    assert checked > 10
    limit = 1 / math.sqrt(net.fc.in_features)
    assert limit * 0.99 < net.fc.weight.abs().max().item() <= limit


def test_stochastic_depth_drops_whole_pictures_at_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.3)
    out = layer(torch.ones(20_000, 2, 3, 1))
    rows = out.flatten(1)
    assert bool((rows == rows[:, :1]).all()), "a picture is kept or dropped as a whole"
    kept = rows[:, 0] != 0
    torch.testing.assert_close(rows[kept, 0], torch.full((int(kept.sum()),), 1 / 0.7))
    assert abs(kept.double().mean().item() - 0.7) < 4 * math.sqrt(0.3 * 0.7 / 20_000)
    x = torch.randn(3, 2, 3, 1)
    assert layer.eval()(x) is x


def test_stochastic_depth_grows_linearly_with_depth() -> None:
    rates = [getattr(block.drop, "rate", 0.0) for block in create("resnet20", stochastic_depth=0.4).blocks]
    assert rates == pytest.approx([0.4 * i / 8 for i in range(9)])
