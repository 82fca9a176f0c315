"""How much of a picture one place of a feature map sees: by arithmetic, and where it really looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.models import ResNet
from resight.models.layers import PadShortcut

Steps = Sequence[tuple[int, int]]
SHARE = 1 - 0.9545  # of the largest gradient: what is above counts as looked at (Luo et al. 2016, §3)


@dataclass(frozen=True)
class Field:
    """Of one place of a named feature map. size: side in pixels that can change it at all, by the longest way through
    the branches; shortest: by the shortcuts alone. step: pixels between neighbouring places."""

    name: str
    size: int
    shortest: int
    step: int


def receptive_fields(net: ResNet) -> list[Field]:
    """``stem``, ``stage1`` …, from kernels k and strides s alone: r += (k − 1)·j, then j *= s (Araujo et al. 2019, eq.
    2).

    Channel gates (squeeze-excitation) see the whole map and are left out. A plain net has no shorter way.
    """
    stem = _steps([net.conv1, net.maxpool])
    longest, shortest, step = _after(stem, 1, 1), _after(stem, 1, 1), _strided(stem, 1)
    fields = [Field("stem", longest, shortest, step)]
    for number, stage in enumerate(net.stages, start=1):
        for block in stage:
            assert isinstance(block, nn.Module)
            branch = _steps([m for name, m in block.named_children() if name.startswith("conv")])
            beside = branch if net.spec.shortcut == "none" else _steps([block.downsample])
            longest, shortest = _after(branch, longest, step), _after(beside, shortest, step)
            step = _strided(branch, step)
        fields.append(Field(f"stage{number}", longest, shortest, step))
    return fields


def _steps(modules: Sequence[object]) -> Steps:
    """(kernel, stride) of everything that looks at neighbours, in order."""

    def walk(module: object) -> Iterator[tuple[int, int]]:
        if isinstance(module, nn.Conv2d):
            yield module.kernel_size[0], module.stride[0]
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            yield _one(module.kernel_size), _one(module.stride)
        elif isinstance(module, PadShortcut):
            yield 1, module.stride
        elif isinstance(module, nn.Sequential):
            for child in module:
                yield from walk(child)

    return [step for module in modules for step in walk(module)]


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _after(steps: Steps, size: int, step: int) -> int:
    for kernel, stride in steps:
        size += (kernel - 1) * step
        step *= stride
    return size


def _strided(steps: Steps, step: int) -> int:
    return step * int(np.prod([stride for _, stride in steps], dtype=np.int64))


def looked_at(net: ResNet, images: Tensor) -> dict[str, NDArray[np.float32]]:
    """Where the middle of each feature map really looks: the mean over pictures of the size of the gradient of its
    channels' sum with respect to the pixels, float32 (H, W), largest 1 (Luo et al. 2016, §2).

    images: normalised, float32 (N, C, H, W). The net must be in evaluation mode, its ReLUs not in place.
    """
    pixels = images.detach().requires_grad_(True)
    with torch.enable_grad():
        maps = {name: out for name, out in net.features(pixels).items() if name.startswith("st")}
    found = {}
    for name, out in maps.items():
        middle = out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, pixels, retain_graph=True)
        mean = gradient.abs().sum(1).mean(0)
        found[name] = (mean / mean.max().clamp_min(1e-30)).numpy()
    return found


def effective_side(weights: NDArray[np.float32]) -> float:
    """Side in pixels of a square as large as what is looked at: the pixels above ``SHARE`` of the largest gradient."""
    return float(np.sqrt((weights > SHARE).sum()))
