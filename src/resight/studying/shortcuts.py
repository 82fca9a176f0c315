"""What single blocks of a trained network do: how much each adds to its shortcut, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.models import ResNet
from resight.models.blocks import Block

Join = Callable[[Tensor, Tensor], Tensor]
Images = Sequence[Tensor]


@dataclass(frozen=True)
class BlockStudy:
    """One block. name: ``stage2.1``. branch, shortcut: RMS of what is added to what, over pictures; ratio: the mean
    over pictures of ‖branch‖ / ‖shortcut‖; None in a plain net. changes_shape: its shortcut projects, pads or
    subsamples. skipped: accuracy in [0, 1] with the shortcut alone; None where a plain block cannot be left out.
    swapped: with this block and the next in each other's place; None where they differ in shape or none follows.
    """

    name: str
    changes_shape: bool
    branch: float | None
    shortcut: float | None
    ratio: float | None
    skipped: float | None
    swapped: float | None


def names(net: ResNet) -> list[str]:
    """``stage1.0`` …, in order."""
    return [f"stage{n}.{k}" for n, stage in enumerate(net.stages, start=1) for k in range(len(stage))]


@torch.no_grad()
def study_blocks(
    net: ResNet, batches: Images, labels: NDArray[np.int64], told: Callable[[int, int], None] = lambda done, total: None
) -> tuple[float, list[BlockStudy]]:
    """Accuracy of the whole net, and every block. batches: normalised float32 (≤ n, C, H, W), all together as many as
    ``labels`` int64 (N,), positions among the net's outputs. The net must be in evaluation mode, ReLUs not in place.

    Skipping: Veit et al. 2016, §4.1: the branch is removed, a projection stays. Swapping: neighbours of one shape
    (§4.3 permutes several). Each block's change is computed from its own input on: what comes before it is the same.
    """
    blocks, steps = net.blocks, len(batches)
    stages = [n for n, stage in enumerate(net.stages) for _ in stage]
    plain = net.spec.shortcut == "none"
    counts = np.zeros((len(blocks), 2), np.int64)
    sums = np.zeros((len(blocks), 3))
    right, start = 0, 0
    for done, images in enumerate(batches):
        truth = torch.from_numpy(labels[start : start + len(images)])
        start += len(images)
        inputs, norms, logits = _walk(net, images)
        right += _hits(logits, truth)
        for k, block in enumerate(blocks):
            if not plain:
                sums[k] += norms[k]
            if not plain or not _reshapes(block):
                counts[k, 0] += _hits(_rest(net, _alone(block, inputs[k]), blocks[k + 1 :]), truth)
            if _swappable(blocks, stages, k):
                order = [blocks[k + 1], blocks[k], *blocks[k + 2 :]]
                counts[k, 1] += _hits(_rest(net, inputs[k], order), truth)
        told(done + 1, steps)
    total = len(labels)

    def study(k: int) -> BlockStudy:
        branch, shortcut, ratio = (None, None, None) if plain else (sums[k] / total).tolist()
        skipped = None if plain and _reshapes(blocks[k]) else int(counts[k, 0]) / total
        swapped = int(counts[k, 1]) / total if _swappable(blocks, stages, k) else None
        return BlockStudy(names(net)[k], _reshapes(blocks[k]), branch, shortcut, ratio, skipped, swapped)

    return right / total, [study(k) for k in range(len(blocks))]


def _hits(logits: Tensor, truth: Tensor) -> int:
    return int((logits.argmax(1) == truth).sum())


def _walk(net: ResNet, images: Tensor) -> tuple[list[Tensor], NDArray[np.float64], Tensor]:
    """What every block gets; (B, 3) sums over pictures of the RMS of branch and shortcut and their ratio; logits."""
    x = net._stem(images)
    inputs, norms = [], np.zeros((len(net.blocks), 3))
    for k, block in enumerate(net.blocks):
        inputs.append(x)
        added: list[Tensor] = []
        with _joining(block, lambda *parts, kept=added: kept.extend(parts)):
            x = block(x)
        if not block.plain:
            branch, shortcut = (part.flatten(1).norm(dim=1).double() for part in added)
            size = added[0][0].numel() ** 0.5
            norms[k] = [float(v.sum()) for v in (branch / size, shortcut / size, branch / shortcut.clamp_min(1e-12))]
    return inputs, norms, _head(net, x)


def _alone(block: Block, x: Tensor) -> Tensor:
    """The block with its shortcut alone; a plain block as if it were not there."""
    if block.plain:
        return x
    with _joining(block, lambda branch, shortcut: shortcut):
        out: Tensor = block(x)
    return out


def _rest(net: ResNet, x: Tensor, blocks: Sequence[Block]) -> Tensor:
    for block in blocks:
        x = block(x)
    return _head(net, x)


def _head(net: ResNet, x: Tensor) -> Tensor:
    logits: Tensor = net.fc(net.avgpool(net.norm(x)).flatten(1))
    return logits


def _reshapes(block: Block) -> bool:
    """Whether the block gives another shape than it gets: its first convolutions stride, or it widens."""
    convs = [m for name, m in block.named_children() if name.startswith("conv") and isinstance(m, nn.Conv2d)]
    return any(m.stride[0] > 1 for m in convs) or convs[0].in_channels != convs[-1].out_channels


def _swappable(blocks: Sequence[Block], stages: Sequence[int], k: int) -> bool:
    following = k + 1 < len(blocks) and stages[k] == stages[k + 1]
    return following and not _reshapes(blocks[k]) and not _reshapes(blocks[k + 1])


@contextmanager
def _joining(block: Block, seen: Callable[[Tensor, Tensor], object]) -> Iterator[None]:
    """Meanwhile ``seen`` is given branch (gated, where there is a gate) and shortcut; what it returns is the sum,
    unless that is None."""
    own = block._join

    def join(branch: Tensor, shortcut: Tensor) -> Tensor:
        gated = block.se(branch)
        out = seen(gated, shortcut)
        return out if isinstance(out, Tensor) else own(branch, shortcut)

    block.__dict__["_join"] = join  # of this object alone: the class stays as it is
    try:
        yield
    finally:
        del block.__dict__["_join"]
