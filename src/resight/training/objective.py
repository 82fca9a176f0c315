"""What training minimises. The loop knows only ``forward(batch) -> (loss, logs)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.augment import apply, draw_mix, mix, shrink
from resight.training.balance import class_weights, log_prior
from resight.training.loader import Batch
from resight.training.losses import label_loss
from resight.training.multilabel import right, targets_of
from resight.training.phases import augment_at, size_at

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

    whole = False  # whether the loss needs all pictures of a process's share at once: no micro-batches

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        raise NotImplementedError

    @property
    def body(self) -> nn.Module:
        """What learns and is stored in checkpoints: ``net``, or, with layers beside it, more."""
        return self.net

    @property
    def kept(self) -> ResNet:
        """What becomes of the training: ``net``, or the network that follows it."""
        return self.net

    def stepped(self, step: int) -> None:
        """Called after update ``step``, from 1."""

    def remarks(self) -> list[str]:
        """What is to be said of the update that was just done."""
        return []


@dataclass(frozen=True)
class Inputs:
    """What a network is trained on. images: float32 (B, C, S, S), normalised and mixed. targets: float32 (B, K), rows
    sum to 1 where a picture has one class. weights: float32 (B,), what each picture counts, or None: all the same."""

    images: Tensor
    targets: Tensor
    weights: Tensor | None


class Supervised(Objective):
    """The labels' loss: cross-entropy with label smoothing, focal, or binary cross-entropy over the classes.

    counts: training pictures of each class, (K,), which ``config.balance`` needs (see :mod:`resight.training.balance`).
    """

    class_weights: Tensor | None
    adjustment: Tensor | None

    def __init__(self, net: ResNet, config: TrainConfig, counts: NDArray[np.int64] | None = None) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.normalize = Normalize(config.data.mean, config.data.std)
        weights = adjustment = None
        if config.balance.weights != "none":
            weights = torch.from_numpy(class_weights(_needed(counts), config.balance)).float()
        if config.balance.logit_adjustment:
            adjustment = torch.from_numpy(log_prior(_needed(counts), config.balance)).float()
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("adjustment", adjustment, persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        inputs = self.inputs(batch)
        return self.outcome(self.net(inputs.images).float(), inputs, batch)

    def inputs(self, batch: Batch) -> Inputs:
        """The batch augmented, at the size of its step, and mixed, with its targets."""
        config = self.config
        augment = augment_at(config, batch.step)
        pixels = shrink(apply(augment, batch.pixels, batch.parameters), size_at(config, batch.step))
        images = self.normalize(pixels).contiguous(memory_format=torch.channels_last)
        # What is smoothed follows the adjustment, so that the answers are smoothed alike. Shared out evenly it would be
        # more than a rare class's own share, and the loss would take doubt for evidence of that class.
        towards = None if self.adjustment is None else self.adjustment.softmax(0)
        targets, weights = targets_of(config, batch.labels, self.net.num_classes, towards), None
        if self.class_weights is not None:
            # Mixed pictures cost the mixture of what both cost: weight and weighted targets are mixed, not the ratio.
            weights = self.class_weights[batch.labels][:, None]
            targets = torch.cat([targets * weights, weights], 1)
        how = draw_mix(augment, config.seed, batch.step)
        if how is not None:
            images, targets = mix(images, targets, how)
        if weights is not None:
            weights = targets[:, -1]
            targets = targets[:, :-1] / weights[:, None]
        return Inputs(images, targets, weights)

    def outcome(self, logits: Tensor, inputs: Inputs, batch: Batch) -> tuple[Tensor, Logs]:
        """Loss and logs of these logits, float32 (B, K). What counts as correct is what would be answered."""
        config = self.config
        seen_by_loss = logits if self.adjustment is None else logits + self.adjustment
        loss = label_loss(seen_by_loss, inputs.targets, config.loss, config.focal_gamma, inputs.weights)
        seen = torch.full((), float(len(logits)), device=logits.device)
        correct = right(logits.detach(), batch.labels)
        return loss, {"loss": loss.detach() * seen, "correct": correct, "seen": seen}


def _needed(counts: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if counts is None:
        raise ValueError("balance.weights and balance.logit_adjustment need the classes' numbers of training pictures")
    return counts
