"""A residual network with a policy: which blocks a picture needs, from what the stem has seen of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.errors import UsageError
from resight.exporting.onnx import OUTPUTS
from resight.models import ResNet

SEEN = 8
"""Side of the maps that a policy looks at, about: the stem's are averaged down to it."""


def droppable(net: ResNet) -> list[str]:
    """Names of the blocks whose shortcut is the identity, in order: dropped, they pass on what they take.

    Raises UsageError for networks without such blocks, or with activations before the weights.
    """
    names = [
        f"layer{stage}.{place}"
        for stage, blocks in enumerate(net.stages, start=1)
        for place, block in enumerate(blocks)
        if block.downsample is None
    ]
    if net.spec.preactivation or net.spec.shortcut == "none" or not names:
        raise UsageError(
            "blocks can be dropped of networks with shortcuts and activations after the weights, where these are "
            "identities",
            hint="resight adapt RUN DATA --by resolution, or --by cascade --with SMALL",
        )
    return names


class Policy(nn.Module):
    """The stem's maps → a logit for each of L blocks: two small convolutions, averaging, one linear layer.

    forward: (N, C, H, W) → (N, L). At first s = 0.88 for each block (see `PolicySettings`).
    """

    def __init__(self, channels: int, blocks: int, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(width, blocks)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.constant_(self.linear.bias, 2.0)

    def embedding(self, seen: Tensor) -> Tensor:
        """Of averaged maps (N, C, h, w): (N, 32)."""
        found: Tensor = F.relu(self.conv2(F.relu(self.conv1(seen)))).mean((2, 3))
        return found

    def forward(self, stem: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.embedding(averaged(stem)))
        return logits


def averaged(stem: Tensor) -> Tensor:
    """The stem's maps (N, C, H, W), averaged over squares to a side of about ``SEEN``."""
    side = max(1, stem.shape[-1] // SEEN)
    return F.avg_pool2d(stem, side) if side > 1 else stem


class Gated(nn.Module):
    """``net`` with a policy over its droppable blocks. The network is in evaluation mode always: its norms keep what
    they know, whoever is dropped.

    forward: float32 (N, C, H, W), normalised → logits (N, K) of the blocks that the policy keeps: those with a
    probability of 0.5 or more.
    """

    def __init__(self, net: ResNet) -> None:
        super().__init__()
        self.net = net
        self.names = droppable(net)
        first = net.get_submodule("layer1.0.conv1")
        assert isinstance(first, nn.Conv2d)  # of every block
        self.policy = Policy(first.in_channels, len(self.names))

    # what the training loop asks of any network
    @property
    def spec(self) -> Any:
        return self.net.spec

    @property
    def num_classes(self) -> int:
        return self.net.num_classes

    def train(self, mode: bool = True) -> Gated:
        super().train(mode)
        self.net.train(False)
        return self

    def stem(self, images: Tensor) -> Tensor:
        return self.net._stem(images)

    def answered(self, stem: Tensor, kept: Tensor) -> Tensor:
        """Logits (N, K) from the stem's maps with only the blocks of ``kept``, bool (N, L). Only what is kept is
        computed.
        """
        x, column = stem, 0
        for stage, blocks in enumerate(self.net.stages, start=1):
            for place, block in enumerate(blocks):
                if f"layer{stage}.{place}" not in self.names:
                    x = block(x)
                    continue
                rows = kept[:, column].nonzero()[:, 0]
                column += 1
                if len(rows) == len(x):
                    x = block(x)
                elif len(rows):
                    x = x.index_copy(0, rows, block(x[rows]))
        logits: Tensor = self.net.fc(self.net.avgpool(self.net.norm(x)).flatten(1))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        return self.answered(stem, self.policy(stem) >= 0)


class Gate(nn.Module):
    """The policy as a network whose classes are the blocks, with the outputs of every graph
    (`resight.exporting.onnx.Answering`): its logits, what it makes them of, and the stem's maps.
    """

    def __init__(self, gated: Gated, normalize: nn.Module) -> None:
        super().__init__()
        self.net, self.policy, self.normalize = gated.net, gated.policy, normalize
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives."""
        return OUTPUTS

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stem = self.net._stem(self.normalize(pixels.permute(0, 3, 1, 2)))
        embedding = self.policy.embedding(averaged(stem))
        logits = self.policy.linear(embedding)
        return torch.softmax(logits, dim=1), logits, embedding, stem
