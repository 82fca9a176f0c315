"""The small parts that residual blocks are made of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NormKind = Literal["batch", "none"]


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution, padded so that stride 1 keeps height and width; without bias where a norm follows it."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)


def norm_of(kind: NormKind, channels: int) -> nn.Module:
    """Batch normalisation (Ioffe and Szegedy 2015), or nothing: the convolutions then have biases."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class PadShortcut(nn.Module):
    """Option A of He et al. 2015, §3.3: an identity that subsamples and pads new channels with zeros.

    It has no parameters. The zeros are split evenly before and after the old channels.
    (N, in_channels, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        added = out_channels - in_channels
        self.padding = (0, 0, 0, 0, added // 2, added - added // 2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels' means (Hu et al. 2018, §3).

    The reduction is 16, but never to fewer than 8 channels. (N, C, H, W) → (N, C, H, W).
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(8, channels // reduction)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class StochasticDepth(nn.Module):
    """While training, drops a residual branch per picture with probability ``rate`` (Huang et al. 2016).

    Kept branches are divided by the survival probability, so nothing changes at test time.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (kept / (1.0 - self.rate)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class GatedAttention(nn.Module):
    """How much each tile of a picture counts: wᵀ(tanh(V h) ⊙ sigm(U h)) (Ilse et al. 2018, eq. 9, before the softmax).

    The softmax is over the tiles of one picture, so it is taken where these are pooled. (N, D) → (N,).
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.V = nn.Linear(features, hidden)
        self.U = nn.Linear(features, hidden)
        self.w = nn.Linear(hidden, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        gated = torch.tanh(self.V(embedding)) * torch.sigmoid(self.U(embedding))
        score: Tensor = self.w(gated).squeeze(1)
        return score
