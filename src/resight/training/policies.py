"""The operations of RandAugment and TrivialAugment, with one strength per picture, on uint8 batches.

All of them work on any number of channels: geometric ones on all alike, the others on each channel by itself, but for
contrast and saturation of RGB, which look at its luma.

Geometric operations become one affine matrix per picture and a single resampling; blending operations one
formula with a factor per picture. Pictures are grouped by operation, so each is touched once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resight.recipes.sections import AugmentConfig

Operation = Callable[[Tensor, Tensor], Tensor]


def _blend(batch: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """other + factor · (batch − other), rounded into uint8; factor 1 leaves the picture as it is."""
    return torch.lerp(other, batch.float(), factor[:, None, None, None]).round().clamp(0, 255).to(torch.uint8)


def _gray(batch: Tensor) -> Tensor:
    """ITU-R 601 luma of RGB, float (B, 1, S, S). Other numbers of channels have no luma: each channel is its own,
    (B, C, S, S), so that contrast is about each channel's mean and saturation changes nothing.
    """
    if batch.shape[1] != 3:
        return batch.float()
    weights = torch.tensor([0.299, 0.587, 0.114], device=batch.device)
    return torch.einsum("bchw,c->bhw", batch.float(), weights)[:, None]


def brightness(batch: Tensor, factor: Tensor) -> Tensor:
    return _blend(batch, torch.zeros_like(batch, dtype=torch.float32), factor)


def saturation(batch: Tensor, factor: Tensor) -> Tensor:
    return _blend(batch, _gray(batch).expand(batch.shape), factor)


def contrast(batch: Tensor, factor: Tensor) -> Tensor:
    return _blend(batch, _gray(batch).mean((2, 3), keepdim=True).expand(batch.shape), factor)


def sharpness(batch: Tensor, factor: Tensor) -> Tensor:
    """Blends with a 3×3 smoothing (weights 1 and 5 of 13); the border is left as it is, as in Pillow."""
    kernel = torch.ones(3, 3, device=batch.device)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(batch.shape[1], 1, 3, 3)
    smooth = batch.float()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(batch.float(), kernel, groups=batch.shape[1])
    return _blend(batch, smooth, factor)


def posterize(batch: Tensor, bits: Tensor) -> Tensor:
    """Keeps the highest ``bits`` (B,) of each value."""
    mask = (255 << (8 - bits.round().long())).bitwise_and(255).to(torch.uint8)
    return batch & mask[:, None, None, None]


def solarize(batch: Tensor, threshold: Tensor) -> Tensor:
    """Inverts values at or above ``threshold`` (B,)."""
    return torch.where(batch >= threshold[:, None, None, None], 255 - batch, batch)


def autocontrast(batch: Tensor, _: Tensor) -> Tensor:
    """Stretches each channel to 0 … 255; a constant channel stays."""
    values = batch.float()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    stretched = ((values - low) * 255 / span).floor().clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, batch)


def equalize(batch: Tensor, _: Tensor) -> Tensor:
    """Flattens each channel's histogram."""
    from torchvision.transforms.v2 import functional as tv

    equalized: Tensor = tv.equalize(batch)
    return equalized


def _affine(batch: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Resamples each picture with its 2×3 output-to-input matrix (in units of half the side); black outside."""
    theta = torch.from_numpy(matrices).float().to(batch.device)
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    out = F.grid_sample(batch.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.round().clamp(0, 255).to(torch.uint8)


def _geometry(kind: str, strength: float) -> list[list[float]]:
    if kind == "rotate":
        c, s = math.cos(math.radians(strength)), math.sin(math.radians(strength))
        return [[c, s, 0], [-s, c, 0]]
    if kind == "shear_x":
        return [[1, strength, 0], [0, 1, 0]]
    if kind == "shear_y":
        return [[1, 0, 0], [strength, 1, 0]]
    shift = 2 * strength  # a fraction of the side, in units of half the side
    return [[1, 0, shift], [0, 1, 0]] if kind == "translate_x" else [[1, 0, 0], [0, 1, shift]]


# Ranges: (at strength 0, at strength 1) and whether the sign is random; a factor's identity is 1.
# TrivialAugment's wide ranges (their table 1) and RandAugment's (Cubuk et al. 2020, as in torchvision).
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS: dict[str, Operation] = {
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
NAMES = ("identity", *GEOMETRIC, *OPERATIONS)
_TRIVIAL = {"rotate": 135.0, "shear": 0.99, "translate": 0.32, "factor": 0.99, "bits": 6.0}
_RAND = {"rotate": 30.0, "shear": 0.3, "translate": 0.45, "factor": 0.9, "bits": 4.0}


def strength_of(name: str, level: float, sign: float, wide: bool) -> float:
    """The parameter of an operation for a level in [0, 1] and a sign in [0, 1): below one half is negative."""
    most, sign = (_TRIVIAL if wide else _RAND), -1.0 if sign < 0.5 else 1.0
    if name in GEOMETRIC:
        return sign * level * most[name.split("_")[0]]
    if name == "posterize":
        return 8 - round(level * most["bits"])
    if name == "solarize":
        return 256 * (1 - level)
    return 1 + sign * level * most["factor"]


def apply_policy(batch: Tensor, u: NDArray[np.float64], config: AugmentConfig) -> Tensor:
    """Applies the drawn operations in order. uint8 (B, C, S, S), u (B, operations, 3) → uint8 (B, C, S, S)."""
    wide = config.policy == "trivial"
    for position in range(u.shape[1]):
        chosen = (u[:, position, 0] * len(NAMES)).astype(np.int64)
        levels = np.floor(u[:, position, 1] * 31) / 30 if wide else np.full(len(u), config.rand_magnitude / 30)
        strengths = np.array(
            [
                strength_of(NAMES[c], level, sign, wide)
                for c, level, sign in zip(chosen, levels, u[:, position, 2], strict=True)
            ]
        )
        batch = _apply_once(batch, chosen, strengths)
    return batch


def _apply_once(batch: Tensor, chosen: NDArray[np.int64], strengths: NDArray[np.float64]) -> Tensor:
    out = batch.clone()
    geometric = np.flatnonzero((chosen >= 1) & (chosen <= len(GEOMETRIC)))
    if len(geometric):
        where = torch.from_numpy(geometric).to(batch.device)
        matrices = np.array([_geometry(NAMES[chosen[i]], strengths[i]) for i in geometric])
        out[where] = _affine(batch[where], matrices)
    for name, operation in OPERATIONS.items():
        members = np.flatnonzero(chosen == NAMES.index(name))
        if len(members):
            where = torch.from_numpy(members).to(batch.device)
            strength = torch.from_numpy(strengths[members]).float().to(batch.device)
            out[where] = operation(batch[where], strength)
    return out


def color_jitter(batch: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Brightness, contrast, then saturation by the three factors of each picture, factors (B, 3)."""
    f = torch.from_numpy(factors).float().to(batch.device)
    batch = contrast(brightness(batch, f[:, 0]), f[:, 1])
    return saturation(batch, f[:, 2]) if batch.shape[1] == 3 else batch


_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def turn_colours(batch: Tensor, tint: NDArray[np.float64]) -> Tensor:
    """uint8 RGB (B, 3, S, S) with each picture's hue turned by ``tint[:, 0]`` of the circle about the axis of greys, in
    YIQ, which keeps its luma; where ``tint[:, 1]`` is 1, no colour is left. One matrix for each picture: several times
    cheaper than the way through HSV, by which colours of equal hue are moved alike, too, and lumas are not kept.
    """
    changed = np.flatnonzero(tint.any(axis=1))
    if not len(changed):
        return batch
    angle = torch.from_numpy(2 * np.pi * tint[changed, 0]).float()
    kept = torch.from_numpy(1 - tint[changed, 1]).float()
    turn = torch.zeros(len(changed), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() * kept
    turn[:, 1, 2], turn[:, 2, 1] = angle.sin() * kept, -angle.sin() * kept  # from red to yellow, as in HSV
    matrices = (torch.linalg.inv(_YIQ) @ turn @ _YIQ).to(batch.device)
    where = torch.from_numpy(changed).to(batch.device)
    pixels = batch[where].float().flatten(2)
    turned = torch.bmm(matrices, pixels).view(-1, *batch.shape[1:])
    out = batch.clone()
    out[where] = turned.round().clamp(0, 255).to(torch.uint8)
    return out


def blur(batch: Tensor, deviations: NDArray[np.float64]) -> Tensor:
    """uint8 (B, C, S, S), each picture blurred by a Gaussian of its own deviation, as a part of the side; 0: not at
    all. The kernel reaches 3 of the largest deviation; borders are mirrored."""
    side = batch.shape[-1]
    changed = np.flatnonzero(deviations > 0)
    reach = min(side - 1, math.ceil(3 * side * float(deviations.max(initial=0.0))))
    if not len(changed) or not reach:
        return batch
    where = torch.from_numpy(changed).to(batch.device)
    sigma = torch.from_numpy(deviations[changed] * side).float()[:, None]
    kernels = torch.exp(-(torch.arange(-reach, reach + 1).float()[None] ** 2) / (2 * sigma**2))
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(batch.device)
    count, channels = len(changed), batch.shape[1]
    each = kernels.repeat_interleave(channels, 0)[:, None]
    pixels = batch[where].float().reshape(1, count * channels, side, side)
    padded = F.pad(pixels, (reach,) * 4, mode="reflect")
    wide = F.conv2d(padded, each[:, :, None, :], groups=count * channels)
    both = F.conv2d(wide, each[:, :, :, None], groups=count * channels)
    out = batch.clone()
    out[where] = both.view(count, channels, side, side).round().clamp(0, 255).to(torch.uint8)
    return out
