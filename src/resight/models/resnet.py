"""The network: a stem, stages of residual blocks, global average pooling and one linear layer.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), and the variants that the fields of
:class:`ResNetSpec` name. One class builds all of them; a variant is a spec (``variants.py``), never a
subclass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resight.errors import UsageError
from resight.models.blocks import BLOCKS, Block, BlockOptions, ShortcutKind
from resight.models.layers import GatedAttention, NormKind, conv, norm_of

StemKind = Literal["imagenet", "deep", "cifar", "tiny"]


@dataclass(frozen=True)
class ResNetSpec:
    """Everything that distinguishes one member of the family from another.

    block: two 3×3 convolutions, or the 1×1–3×3–1×1 bottleneck with four times the output channels.
    depths: blocks in each stage. widths: the planes of each stage.
    stem: ``imagenet`` (7×7 stride 2, then max-pooling: /4), ``deep`` (ResNet-D's three 3×3: /4),
        ``tiny`` (3×3 stride 2: /2), ``cifar`` (3×3 stride 1: /1).
    shortcut: what is done where shapes change: ``A`` zero-padding, ``B`` 1×1 convolution, ``D`` average
        pooling and 1×1 convolution; ``none`` removes every shortcut: the plain counterpart.
    preactivation: norm and ReLU before the weights (v2, He et al. 2016).
    groups, width_per_group: ResNeXt (Xie et al. 2017) and wide (Zagoruyko and Komodakis 2016) bottlenecks.
    stride_on: the bottleneck's convolution that strides: ``3x3`` (v1.5, torchvision) or ``1x1`` (the paper).
    squeeze_excitation: a channel gate at the end of each branch (Hu et al. 2018).
    stochastic_depth: the drop rate of the last branch, linear from 0 at the first (Huang et al. 2016).
    norm: ``batch``, or ``none``: no batch normalisation anywhere, biases instead.
    attention: for pictures cut into tiles: the hidden width of the gated attention that weighs these; 0 for none.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: StemKind = "imagenet"
    shortcut: ShortcutKind = "B"
    preactivation: bool = False
    groups: int = 1
    width_per_group: int = 64
    stride_on: Literal["3x3", "1x1"] = "3x3"
    squeeze_excitation: bool = False
    stochastic_depth: float = 0.0
    norm: NormKind = "batch"
    attention: int = 0

    def __post_init__(self) -> None:
        if self.stochastic_depth and self.shortcut == "none":
            raise UsageError("stochastic depth needs shortcuts: a plain network that drops a branch is cut off")
        if not 0.0 <= self.stochastic_depth < 1.0:
            raise UsageError(f"stochastic_depth must be in [0, 1), not {self.stochastic_depth}")
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise UsageError("groups and width_per_group change bottleneck blocks only")
        if self.block == "basic" and self.stride_on != "3x3":
            raise UsageError("stride_on changes bottleneck blocks only")
        if self.norm not in ("batch", "none"):
            raise UsageError(f"norm must be batch or none, not {self.norm!r}")
        if type(self.attention) is not int or not 0 <= self.attention <= 4096:
            raise UsageError(f"attention must be a whole number from 0 to 4096, not {self.attention!r}")


class ResNet(nn.Module):
    """A residual network. float32 (N, in_channels, H, W), normalised → logits (N, num_classes).

    num_classes 0 leaves the last layer out: the answer, and ``logits``, are then the embedding.

    H and W may be any size from 28 px. ``checkpointing`` trades about a third more time for activations of
    about √n blocks of a stage at a time (Chen et al. 2016, §4.2); results are bitwise the same.
    """

    def __init__(self, spec: ResNetSpec, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.checkpointing = False
        width = self._build_stem()
        block = BLOCKS[spec.block, spec.preactivation]
        options = BlockOptions(
            spec.shortcut, spec.stride_on, spec.groups, spec.width_per_group, spec.squeeze_excitation, spec.norm
        )
        total, done = sum(spec.depths), 0
        for number, (depth, planes) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
            blocks = []
            for position in range(depth):
                stride = 2 if position == 0 and number > 1 else 1
                drop_rate = spec.stochastic_depth * done / max(1, total - 1)
                blocks.append(block(width, planes, stride, options, drop_rate))
                width, done = planes * block.expansion, done + 1
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.norm = nn.Sequential(norm_of(spec.norm, width), nn.ReLU()) if spec.preactivation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.width = width  # numbers of an embedding
        self.fc: nn.Linear = nn.Linear(width, num_classes) if num_classes else nn.Identity()  # type: ignore[assignment]
        if spec.attention:
            self.attention = GatedAttention(width, spec.attention)
        initialize(self)

    def _build_stem(self) -> int:
        spec, width, bias = self.spec, self.spec.widths[0], self.spec.norm == "none"
        if spec.stem == "deep":  # He, T. et al. 2019, §4.1: the 7×7 becomes three 3×3
            half = width // 2
            self.conv1: nn.Module = nn.Sequential(
                *(conv(self.in_channels, half, 3, stride=2, bias=bias), norm_of(spec.norm, half)),
                nn.ReLU(inplace=True),
                *(conv(half, half, 3, bias=bias), norm_of(spec.norm, half), nn.ReLU(inplace=True)),
                conv(half, width, 3, bias=bias),
            )
        elif spec.stem == "imagenet":
            self.conv1 = conv(self.in_channels, width, 7, stride=2, bias=bias)
        else:
            self.conv1 = conv(self.in_channels, width, 3, stride=2 if spec.stem == "tiny" else 1, bias=bias)
        self.bn1 = nn.Identity() if spec.preactivation else norm_of(spec.norm, width)
        self.relu = nn.Identity() if spec.preactivation else nn.ReLU(inplace=True)
        pools = spec.stem in ("imagenet", "deep")
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pools else nn.Identity()
        return width

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages in order; each a sequence of blocks."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.spec.depths))]  # type: ignore[misc]

    @property
    def blocks(self) -> list[Block]:
        """All residual blocks in order."""
        return [block for stage in self.stages for block in stage]  # type: ignore[misc]

    def _stem(self, x: Tensor) -> Tensor:
        out: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return out

    def _through(self, stage: nn.Sequential, x: Tensor) -> Tensor:
        """The output of a stage; with checkpointing in segments of about √n of its n blocks."""
        if not (self.checkpointing and self.training):
            whole: Tensor = stage(x)
            return whole
        size = max(1, round(len(stage) ** 0.5))
        for start in range(0, len(stage), size):
            segment = stage[start : start + size]

            def contexts(
                segment: nn.Sequential = segment,
            ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
                return nullcontext(), _frozen_statistics(segment)

            x = checkpoint(segment, x, use_reentrant=False, context_fn=contexts)
        return x

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """All named activations.

        ``stem``, ``stage1`` … ``stage4`` (three stages for the CIFAR type), ``features``: the map that is
        pooled (N, D, h, w), ``embedding`` (N, D), ``logits`` (N, num_classes); with ``spec.attention`` also
        ``attention`` (N,), how much each of these tiles counts in its picture.
        """
        out = {"stem": self._stem(x)}
        x = out["stem"]
        for number, stage in enumerate(self.stages, start=1):
            x = self._through(stage, x)
            out[f"stage{number}"] = x
        out["features"] = self.norm(x)
        out["embedding"] = self.avgpool(out["features"]).flatten(1)
        out["logits"] = self.fc(out["embedding"])
        if self.spec.attention:
            out["attention"] = self.attention(out["embedding"])
        return out

    def embedding(self, x: Tensor) -> Tensor:
        """The pooled features alone, (N, D): what ``fc`` and ``attention`` take."""
        x = self._stem(x)
        for stage in self.stages:
            x = self._through(stage, x)
        pooled: Tensor = self.avgpool(self.norm(x)).flatten(1)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.embedding(x))
        return logits


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are: a recomputed block must not count its batch a second time.

    A momentum of 0 keeps them to the bit. Switching them off would not do: the norm would then save other
    tensors for its backward pass than the first time, which PyTorch refuses.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted


def initialize(net: ResNet) -> None:
    """He initialisation: N(0, 2/fan_out) for convolutions, 1 and 0 for norms (He et al. 2015b, §2.2).

    The linear layer keeps PyTorch's default, uniform in ±1/√D, as torchvision's does.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def zero_gamma(net: ResNet) -> None:
    """Every branch starts as zero, every block as its shortcut (Goyal et al. 2017, §5.1).

    Zeroes the last norm's weight of each block; in pre-activation blocks, where no norm comes last, the last
    convolution. Raises UsageError for a plain network, which would answer the same for every picture.
    """
    if net.spec.shortcut == "none":
        raise UsageError("zero-gamma needs shortcuts: a plain network would pass nothing on")
    for block in net.blocks:
        nn.init.zeros_(block.last)
