"""BYOL: a network predicts what a slowly following one says of another view (Grill et al. 2020, "Bootstrap your own
latent")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.pretraining.views import Pretraining, follow, follower, momentum_at, perceptron
from resight.recipes.config import TrainConfig


def regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of B predictions and targets (B, D) of length 1: 2 − 2 · cosine, 0 … 4 (eq. 2); ()."""
    return (2 - 2 * F.cosine_similarity(prediction.float(), target.float(), dim=1)).mean()


class BYOL(Pretraining):
    """Each view predicts each other one's target; the mean over the pairs (§3.1, symmetric)."""

    remedy = "Raise --set pretrain.momentum, or train with a lower --lr."

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__(net, config)
        how = config.pretrain
        self.projector = perceptron(net.width, how.hidden, how.width)
        self.predictor = perceptron(how.width, how.hidden, how.width)
        self.target = nn.Sequential(follower(net), follower(self.projector))

    def compared(self, images: Sequence[Tensor], step: int) -> tuple[Tensor, Sequence[Tensor]]:
        projections = [self.projector(self.net(view)) for view in images]
        predictions = [self.predictor(rows) for rows in projections]
        if self.config.pretrain.stop_gradient:
            with torch.no_grad():
                targets = [self.target(view) for view in images]
        else:  # the network itself is the target, and learns to be easily predicted
            targets = projections
        pairs = [
            regression(prediction, target)
            for i, prediction in enumerate(predictions)
            for j, target in enumerate(targets)
            if i != j
        ]
        return torch.stack(pairs).mean(), projections

    def stepped(self, step: int) -> None:
        momentum = momentum_at(self.config.pretrain.momentum, step, self.config.total_steps)
        follow(self.target[0], self.net, momentum)
        follow(self.target[1], self.projector, momentum)
