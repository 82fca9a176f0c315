"""What training minimises. The loop knows only ``forward(batch) -> (loss, logs)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.augment import apply, draw_mix, mix, shrink
from resight.training.loader import Batch, size_at
from resight.training.multilabel import right, targets_of

Logs = dict[str, Tensor]


class Normalize(nn.Module):
    """uint8 (N, C, H, W) in 0 … 255 → float32, (x / 255 − mean) / std per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.mean) / self.std


class Objective(nn.Module):
    """Base of everything the loop can train. ``net`` is what will be saved and answer later, of pictures that went
    through ``normalize``.

    ``forward(batch)`` gives the mean loss over the batch, and logs: sums over it, with ``seen`` pictures.
    """

    net: ResNet
    normalize: Normalize

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        raise NotImplementedError


class Supervised(Objective):
    """Cross-entropy with label smoothing, or binary cross-entropy over the classes (Wightman et al. 2021, §3), also of
    any number of labels.
    """

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.normalize = Normalize(config.data.mean, config.data.std)

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        config = self.config
        pixels = shrink(apply(config.augment, batch.pixels, batch.parameters), size_at(config, batch.step))
        images = self.normalize(pixels).contiguous(memory_format=torch.channels_last)
        targets = targets_of(config, batch.labels, self.net.num_classes)
        how = draw_mix(config.augment, config.seed, batch.step)
        if how is not None:
            images, targets = mix(images, targets, how)
        logits = self.net(images).float()
        if config.loss == "bce":
            loss = F.binary_cross_entropy_with_logits(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets)
        seen = torch.full((), float(len(logits)), device=logits.device)
        correct = right(logits.detach(), batch.labels)
        return loss, {"loss": loss.detach() * seen, "correct": correct, "seen": seen}
