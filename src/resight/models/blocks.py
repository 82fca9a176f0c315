"""Residual blocks: basic and bottleneck, with the activation after (2015) or before (2016) the weights.

Every block maps (N, in_channels, H, W) to (N, planes · expansion, ⌈H/stride⌉, ⌈W/stride⌉). Module names are
torchvision's, so that state dicts fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from resight.models.layers import NormKind, PadShortcut, SqueezeExcitation, StochasticDepth, conv, norm_of

ShortcutKind = Literal["A", "B", "D", "none"]


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of one network share; :class:`~resight.models.ResNetSpec` explains the fields."""

    shortcut: ShortcutKind
    stride_on: Literal["3x3", "1x1"]
    groups: int
    width_per_group: int
    squeeze_excitation: bool
    norm: NormKind = "batch"

    @property
    def bias(self) -> bool:
        """Whether convolutions have one: a norm would take it away again."""
        return self.norm == "none"


def _projection(
    options: BlockOptions, in_channels: int, out_channels: int, stride: int, *, norm: bool
) -> nn.Module | None:
    """What the shortcut needs to match the branch: nothing, zero-padding (A) or a 1×1 convolution (B, D).

    norm: whether the projection has one, where the network has norms.
    """
    kind = options.shortcut
    if kind == "none" or (stride == 1 and in_channels == out_channels):
        return None
    if kind == "A":
        return PadShortcut(in_channels, out_channels, stride)
    layers: list[nn.Module] = []
    if kind == "D":  # He, T. et al. 2019, §4.2: average before projecting, so that no activation is ignored
        if stride > 1:
            layers.append(nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False))
        else:
            layers.append(nn.Identity())
        stride = 1
    layers.append(conv(in_channels, out_channels, 1, stride=stride, bias=options.bias))
    if norm and options.norm == "batch":
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)


def _weight(norm: nn.Module, before: nn.Conv2d) -> Tensor:
    """Of the norm that ends a branch; of the convolution before it where there is no norm."""
    return norm.weight if isinstance(norm, nn.BatchNorm2d) else before.weight


class Block(nn.Module):
    """What all four blocks share. ``last`` is the parameter whose zeros make the branch start as nothing."""

    expansion: ClassVar[int] = 1
    downsample: nn.Module | None
    se: nn.Module
    drop: nn.Module

    def _finish(self, options: BlockOptions, out_channels: int, drop_rate: float) -> None:
        self.plain = options.shortcut == "none"
        self.se = SqueezeExcitation(out_channels) if options.squeeze_excitation else nn.Identity()
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()

    @property
    def last(self) -> Tensor:
        """Each of the four blocks names its own."""
        raise NotImplementedError

    def _join(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Adds the shortcut to the branch: the one line that makes a network residual."""
        branch = self.se(branch)
        return branch if self.plain else self.drop(branch) + shortcut


class BasicBlock(Block):
    """Two 3×3 convolutions (He et al. 2015, figure 5 left)."""

    def __init__(self, in_channels: int, planes: int, stride: int, options: BlockOptions, drop_rate: float) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, planes, 3, stride=stride, bias=options.bias)
        self.bn1 = norm_of(options.norm, planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(planes, planes, 3, bias=options.bias)
        self.bn2 = norm_of(options.norm, planes)
        self.downsample = _projection(options, in_channels, planes, stride, norm=True)
        self._finish(options, planes, drop_rate)

    @property
    def last(self) -> Tensor:
        return _weight(self.bn2, self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        joined: Tensor = self.relu(self._join(out, shortcut))
        return joined


class Bottleneck(Block):
    """1×1, 3×3, 1×1 (He et al. 2015, figure 5 right); the stride is on the 3×3 (v1.5) or first 1×1 (v1)."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int, options: BlockOptions, drop_rate: float) -> None:
        super().__init__()
        width = planes * options.width_per_group // 64 * options.groups
        first, second = (stride, 1) if options.stride_on == "1x1" else (1, stride)
        self.conv1 = conv(in_channels, width, 1, stride=first, bias=options.bias)
        self.bn1 = norm_of(options.norm, width)
        self.conv2 = conv(width, width, 3, stride=second, groups=options.groups, bias=options.bias)
        self.bn2 = norm_of(options.norm, width)
        self.conv3 = conv(width, planes * self.expansion, 1, bias=options.bias)
        self.bn3 = norm_of(options.norm, planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(options, in_channels, planes * self.expansion, stride, norm=True)
        self._finish(options, planes * self.expansion, drop_rate)

    @property
    def last(self) -> Tensor:
        return _weight(self.bn3, self.conv3)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        joined: Tensor = self.relu(self._join(out, shortcut))
        return joined


class _PreActivation(Block):
    """The activation before the weights, so that shortcuts stay identities (He et al. 2016, figure 1b, §4.1).

    A projecting shortcut starts from the activated input, as in the authors' code; padding (A) from the raw
    one.
    """

    bn1: nn.Module
    relu: nn.ReLU
    branch: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        if self.downsample is None:
            shortcut: Tensor = x
        else:
            shortcut = self.downsample(x if isinstance(self.downsample, PadShortcut) else active)
        return self._join(self.branch(active), shortcut)


class PreActBasicBlock(_PreActivation):
    """Two pre-activated 3×3 convolutions."""

    def __init__(self, in_channels: int, planes: int, stride: int, options: BlockOptions, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = norm_of(options.norm, in_channels)
        self.relu = nn.ReLU()
        self.conv1 = conv(in_channels, planes, 3, stride=stride, bias=options.bias)
        self.bn2 = norm_of(options.norm, planes)
        self.conv2 = conv(planes, planes, 3, bias=options.bias)
        self.downsample = _projection(options, in_channels, planes, stride, norm=False)
        self._finish(options, planes, drop_rate)

    @property
    def last(self) -> Tensor:
        return self.conv2.weight

    def branch(self, active: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return out


class PreActBottleneck(_PreActivation):
    """Pre-activated 1×1, 3×3, 1×1."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int, options: BlockOptions, drop_rate: float) -> None:
        super().__init__()
        width = planes * options.width_per_group // 64 * options.groups
        first, second = (stride, 1) if options.stride_on == "1x1" else (1, stride)
        self.bn1 = norm_of(options.norm, in_channels)
        self.relu = nn.ReLU()
        self.conv1 = conv(in_channels, width, 1, stride=first, bias=options.bias)
        self.bn2 = norm_of(options.norm, width)
        self.conv2 = conv(width, width, 3, stride=second, groups=options.groups, bias=options.bias)
        self.bn3 = norm_of(options.norm, width)
        self.conv3 = conv(width, planes * self.expansion, 1, bias=options.bias)
        self.downsample = _projection(options, in_channels, planes * self.expansion, stride, norm=False)
        self._finish(options, planes * self.expansion, drop_rate)

    @property
    def last(self) -> Tensor:
        return self.conv3.weight

    def branch(self, active: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.bn2(self.conv1(active))))
        widened: Tensor = self.conv3(self.relu(self.bn3(out)))
        return widened


BLOCKS: dict[tuple[str, bool], type[BasicBlock | Bottleneck | PreActBasicBlock | PreActBottleneck]] = {
    ("basic", False): BasicBlock,
    ("bottleneck", False): Bottleneck,
    ("basic", True): PreActBasicBlock,
    ("bottleneck", True): PreActBottleneck,
}
