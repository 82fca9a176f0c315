"""A Run's network in PyTorch, ready to be asked for gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.models import ResNet, network_of
from resight.runs import Run
from resight.training.objective import Normalize

Pixels = NDArray[np.uint8]


class Explained(nn.Module):
    """Pixels to logits, in evaluation mode: float32 (N, C, S, S) in 0 … 255 → (N, K).

    ReLUs work on copies: hooks that keep an activation would otherwise find it overwritten. It does not matter whether
    the parameters of ``net`` are frozen: gradients are taken with respect to pixels and activations.
    """

    def __init__(self, net: ResNet, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.normalize = Normalize(mean, std)
        for module in self.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.eval()

    @property
    def last_map(self) -> nn.Module:
        """The module whose output is ``features``, the map that is pooled: after the last norm and ReLU where these
        come before the pooling, else the output of the last stage, which this module passes on.
        """
        return self.net.norm

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(self.normalize(pixels))
        return logits


def load_network(run: Run) -> Explained:
    """The network of a Run, from the very bytes of its weights that were checked.

    Raises RunError for weights that were changed, WeightsError for weights of another network.
    """
    return Explained(network_of(run), run.card.mean, run.card.std)


def to_tensor(square: Pixels) -> Tensor:
    """uint8 (S, S, C) → float32 (1, C, S, S) in 0 … 255."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(square, 2, 0))).float()[None]
