"""Augmentation as two pure functions: ``draw`` the parameters, ``apply`` them to a batch.

``draw`` depends on (seed, epoch, index) of each picture only. The crop of :func:`random_box` is cut where the batch is
put together, since pictures differ in size; everything else works on whole uint8 batches on any device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resight.images import resize_short
from resight.images.geometry import MAX_RATIO
from resight.recipes.sections import AugmentConfig
from resight.training.policies import apply_policy, blur, color_jitter, turn_colours
from resight.training.randomness import generator, uniforms

BLUR = (0.1 / 224, 2 / 224)
"""Standard deviations of the blur, as parts of the side: Chen et al. 2020, §A, blur by 0.1 to 2 px at 224 px."""

_MIX_STREAM = 2
_ALONE = 32767  # elements that PyTorch computes with in one thread (at::internal::GRAIN_SIZE is one more)


@dataclass(frozen=True)
class Parameters:
    """What happens to each picture of a batch; every array has one row per picture.

    crop: (B, 4) uniforms for the random resized crop. flip: (B,) bool. shift: (B, 2) int64, right and down.
    policy: (B, rand_count, 3) uniforms: operation, strength, sign. color: (B, 3) factors.
    erase: (B, 5): 1.0 or 0.0, then uniforms for area, aspect, left, top. tint: (B, 2): by how much of the circle the
    hue is turned, and 1.0 where all colours go, else 0.0. blur: (B,) standard deviations, as parts of the side, or 0.
    """

    crop: NDArray[np.float64]
    flip: NDArray[np.bool_]
    shift: NDArray[np.int64]
    policy: NDArray[np.float64]
    color: NDArray[np.float64]
    erase: NDArray[np.float64]
    tint: NDArray[np.float64]
    blur: NDArray[np.float64]


def draw(config: AugmentConfig, seed: int, epoch: int, indices: NDArray[np.int64]) -> Parameters:
    """Parameters for the pictures ``indices`` (B,) in this epoch. The same for any batch they come in."""
    count = config.rand_count if config.policy == "rand" else 1
    u = uniforms(seed, epoch, indices, 20 + 3 * count)
    later = u[:, 15 + 3 * count :]  # what was added later comes last: everything before is drawn as ever
    coloured = later[:, 0] < config.color_share
    span = 2 * config.shift + 1
    return Parameters(
        crop=u[:, 0:4],
        flip=_flips(config, seed, epoch, indices, u[:, 4]),
        shift=(u[:, 5:7] * span).astype(np.int64) - config.shift,
        color=1 + config.color * coloured[:, None] * (2 * u[:, 7:10] - 1),
        erase=np.concatenate([(u[:, 10:11] < config.erasing).astype(np.float64), u[:, 11:15]], axis=1),
        policy=u[:, 15 : 15 + 3 * count].reshape(len(u), count, 3),
        tint=np.stack([coloured * config.hue * (2 * later[:, 1] - 1), later[:, 2] < config.gray], axis=1),
        blur=(later[:, 3] < config.blur) * (BLUR[0] + later[:, 4] * (BLUR[1] - BLUR[0])),
    )


def _flips(
    config: AugmentConfig, seed: int, epoch: int, indices: NDArray[np.int64], u: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which pictures are mirrored, (B,). ``u``: a uniform each."""
    if config.flip == "alternate":
        first = uniforms(seed, 0, indices, 5)[:, 4] < 0.5
        return first ^ bool(epoch % 2)
    return u < 0.5 if config.flip == "random" else np.zeros(len(u), bool)


def random_box(
    height: int, width: int, u: NDArray[np.float64], config: AugmentConfig
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a random resized crop (Szegedy et al. 2015; aspect 3/4 to 4/3).

    ``u``: four uniforms. A box that would leave the picture is shrunk to fit, keeping its aspect.
    """
    area = height * width * (config.scale_min + u[0] * (config.scale_max - config.scale_min))
    aspect = np.exp(np.log(3 / 4) + u[1] * (np.log(4 / 3) - np.log(3 / 4)))
    w, h = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
    shrink = min(1.0, width / w, height / h)
    # Rounding can make w · (width / w) a little more than width, which Pillow refuses.
    w, h = min(w * shrink, float(width)), min(h * shrink, float(height))
    left, top = float(u[2]) * (width - w), float(u[3]) * (height - h)
    return left, top, min(left + w, float(width)), min(top + h, float(height))


def crop_resized(
    pictures: Iterable[NDArray[np.uint8]], parameters: Parameters, config: AugmentConfig, size: int, bicubic: bool
) -> Tensor:
    """A random part of each picture, antialiased to ``size``, and mirrored where ``parameters.flip`` says so: done at
    once, while it is in the processor's cache, that costs a tenth of mirroring the batch later.

    pictures: B times uint8 (H, W, C), each of its own size. The edges of :func:`random_box` are rounded to whole
    pixels. Returns uint8 (B, C, size, size), channels-last in memory. Raises ValueError for none.
    """
    batch: Tensor | None = None
    for number, (pixels, row) in enumerate(zip(pictures, parameters.crop, strict=True)):
        height, width, channels = pixels.shape
        left, top, right, bottom = map(round, random_box(height, width, row, config))
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        left, top = min(left, width - 1), min(top, height - 1)
        if batch is None:
            batch = torch.empty(len(parameters.crop), size, size, channels, dtype=torch.uint8).permute(0, 3, 1, 2)
        _resize(pixels[top:bottom, left:right].copy(), batch[number : number + 1], bicubic)
        if parameters.flip[number]:
            _mirror_one(batch[number : number + 1])
    if batch is None:
        raise ValueError("a batch needs at least one picture")
    return batch


def to_short(pixels: NDArray[np.uint8], short: int, bicubic: bool) -> NDArray[np.uint8]:
    """uint8 (H, W, C), antialiased so that the shorter side is ``short``; itself where it is at most a quarter longer:
    that costs less memory than shrinking costs time.

    As ``resight.images.resize_short``, several times faster; values differ from Pillow's by rounding.
    """
    height, width, channels = pixels.shape
    if min(height, width) <= 1.25 * short:
        return pixels
    if max(height, width) > MAX_RATIO * min(height, width):
        return resize_short(pixels, short, "bicubic" if bicubic else "bilinear")
    size = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    made = torch.empty(1, *size, channels, dtype=torch.uint8).permute(0, 3, 1, 2)
    _resize(np.require(pixels, requirements="W"), made, bicubic)
    return made[0].permute(1, 2, 0).numpy()


def _resize(pixels: NDArray[np.uint8], out: Tensor, bicubic: bool) -> None:
    """What ``torch.nn.functional.interpolate`` makes of (H, W, C) with antialiasing, into ``out`` (1, C, h, w),
    channels-last in memory. In place it takes less than half of the time; in one thread."""
    resize = torch.ops.aten._upsample_bicubic2d_aa.out if bicubic else torch.ops.aten._upsample_bilinear2d_aa.out
    resize(torch.from_numpy(pixels).permute(2, 0, 1)[None], out.shape[2:], False, out=out)


def apply(config: AugmentConfig, batch: Tensor, parameters: Parameters) -> Tensor:
    """Shift, flip, policy, colour, blur and erasing. uint8 (B, C, S, S) → the same shape and type.

    Every picture's result depends on its own pixels and parameters alone.
    """
    if config.crop == "shift" and config.shift:
        batch = _shift(batch, parameters.shift, config)
    if parameters.flip.any():
        batch = _mirror(batch, parameters.flip)
    if config.policy != "none":
        batch = apply_policy(batch, parameters.policy, config)
    if config.color:
        batch = color_jitter(batch, parameters.color)
    if (config.hue or config.gray) and batch.shape[1] == 3:
        batch = turn_colours(batch, parameters.tint)
    if config.blur:
        batch = blur(batch, parameters.blur)
    if config.erasing:
        batch = _erase(batch, parameters.erase)
    return batch


def shrink(batch: Tensor, size: int) -> Tensor:
    """uint8 (B, C, S, S) → (B, C, size, size), antialiased; itself where it has that size."""
    if batch.shape[-1] == size:
        return batch
    if batch.is_cpu:
        return F.interpolate(batch, (size, size), mode="bilinear", antialias=True, align_corners=False)
    # Elsewhere PyTorch's antialiased filter takes floating-point numbers only.
    small = F.interpolate(batch.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


def _mirror(batch: Tensor, flip: NDArray[np.bool_]) -> Tensor:
    """The pictures that ``flip`` (B,) says, left to right."""
    if not batch.is_cpu:
        return torch.where(torch.from_numpy(flip).to(batch.device)[:, None, None, None], batch.flip(3), batch)
    out = torch.from_numpy(batch.permute(0, 2, 3, 1).numpy().copy()).permute(0, 3, 1, 2)
    for number in np.flatnonzero(flip).tolist():
        _mirror_one(out[number : number + 1])
    return out


def _mirror_one(picture: Tensor) -> None:
    """(1, C, H, W) on the CPU, in place. In pieces so small that PyTorch starts no threads for them: they stay in the
    processor's cache, and nothing waits for a core that decodes. Several times faster than a whole batch at once."""
    _, channels, height, width = picture.shape
    rows = max(1, _ALONE // (channels * width))
    for top in range(0, height, rows):
        piece = picture[:, :, top : top + rows]
        piece.copy_(piece.flip(3))


def _shift(batch: Tensor, shift: NDArray[np.int64], config: AugmentConfig) -> Tensor:
    """Each picture moved by its (x, y); what comes in is zero or mirrored. He et al. 2015, §4.2: pad 4, crop."""
    _, _, height, width = batch.shape
    by = torch.from_numpy(shift).to(batch.device)
    rows = torch.arange(height, device=batch.device)[None] - by[:, 1:2]
    columns = torch.arange(width, device=batch.device)[None] - by[:, 0:1]
    picture = torch.arange(len(batch), device=batch.device)[:, None, None]
    inside_rows, inside_columns = _mirrored(rows, height), _mirrored(columns, width)
    # Indexing in (B, H, W, C) keeps channels together: one gather of whole pixels.
    moved = batch.permute(0, 2, 3, 1)[picture, inside_rows[:, :, None], inside_columns[:, None, :]]
    if config.shift_padding == "zero":
        outside = ((rows != inside_rows)[:, :, None] | (columns != inside_columns)[:, None, :])[..., None]
        moved = moved.masked_fill(outside, 0)
    return moved.permute(0, 3, 1, 2)


def _mirrored(position: Tensor, size: int) -> Tensor:
    """Positions outside [0, size) reflected at the border pixels."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position).clamp(0, size - 1)


def _erase(batch: Tensor, erase: NDArray[np.float64]) -> Tensor:
    """A rectangle of each chosen picture becomes its mean colour. Zhong et al. 2017: 2–33 % of the area,
    aspect 0.3–3.3; the mean instead of noise, as in their ablation."""
    _, _, height, width = batch.shape
    area = height * width * (0.02 + erase[:, 1] * (1 / 3 - 0.02))
    aspect = np.exp(np.log(0.3) + erase[:, 2] * (np.log(3.3) - np.log(0.3)))
    h = np.clip(np.sqrt(area * aspect).round(), 1, height)
    w = np.clip(np.sqrt(area / aspect).round(), 1, width)
    top, left = np.floor(erase[:, 4] * (height - h + 1)), np.floor(erase[:, 3] * (width - w + 1))
    edges = torch.from_numpy(np.stack([top, top + h, left, left + w, erase[:, 0]])).to(batch.device)
    rows = torch.arange(height, device=batch.device)[None, :]
    columns = torch.arange(width, device=batch.device)[None, :]
    in_rows = (rows >= edges[0][:, None]) & (rows < edges[1][:, None])
    in_columns = (columns >= edges[2][:, None]) & (columns < edges[3][:, None])
    inside = in_rows[:, :, None] & in_columns[:, None, :] & (edges[4] > 0)[:, None, None]
    mean = batch.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    return torch.where(inside[:, None], mean, batch)


@dataclass(frozen=True)
class Mix:
    """How a (micro-)batch is blended with itself in reverse order. weight: of the picture's own label."""

    kind: str
    weight: float
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def draw_mix(config: AugmentConfig, seed: int, step: int) -> Mix | None:
    """mixup or cutmix for the batch of this step, or None where both are off."""
    if not (config.mixup or config.cutmix):
        return None
    random = generator(seed, step, _MIX_STREAM)
    switch = random.random()
    cut = bool(config.cutmix) and (not config.mixup or switch < 0.5)
    alpha = config.cutmix if cut else config.mixup
    weight = float(random.beta(alpha, alpha))
    if not cut:
        return Mix("mixup", weight)
    side = np.sqrt(1 - weight) / 2  # half of the box's side, relative to the picture
    x, y = random.random(2)
    return Mix("cutmix", weight, (max(0, x - side), max(0, y - side), min(1, x + side), min(1, y + side)))


def mix(images: Tensor, targets: Tensor, how: Mix) -> tuple[Tensor, Tensor]:
    """Blends images (B, C, S, S) and targets (B, K), both float, with their reverse order.

    cutmix weighs the labels by the pixels that were really replaced (Yun et al. 2019, eq. 1).
    """
    weight = how.weight
    if how.kind == "mixup":
        images = torch.lerp(images.flip(0), images, weight)
    else:
        size = images.shape[-1]
        left, top, right, bottom = (round(edge * size) for edge in how.box)
        images = images.clone()
        images[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        weight = 1 - (bottom - top) * (right - left) / size**2
    return images, torch.lerp(targets.flip(0), targets, weight)


def one_hot(labels: Tensor, classes: int, smoothing: float, towards: Tensor | None = None) -> Tensor:
    """float32 (B, classes): 1 − smoothing on the label, and smoothing shared out ``towards`` shares (classes,) that sum
    to 1; alike without them."""
    shared = smoothing / classes if towards is None else smoothing * towards
    return F.one_hot(labels, classes).float() * (1 - smoothing) + shared
