"""Bytes of tensors that an update keeps alive, counted without computing it.

The network runs once forward and backward on PyTorch's ``meta`` device, where tensors have shapes and no data, so that
any batch can be counted in the memory of none. A test holds the counts to those of the same run with data.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resight.models import ResNet, create
from resight.recipes.config import TrainConfig
from resight.recipes.sections import ModelConfig
from resight.training.parts import fix, freeze, set_training


@dataclass(frozen=True)
class Peak:
    """Bytes. kept: by the forward pass, for the backward pass. most: at any moment of both, the gradients of the
    weights included and the weights not. weights: of the parameters. state: of parameters and buffers. answering: the
    most of a forward pass without gradients, of as many pictures of ``data.image_size``.
    """

    kept: int
    most: int
    weights: int
    state: int
    answering: int = 0


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered: bytes of the storages that were made since and still live, ``now``, and their ``most``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_key(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(out):
            if not isinstance(value, Tensor):
                continue
            key = _key(value)
            if key in given or key in self._known:
                continue  # changed in place, or another view of what is counted
            storage = value.untyped_storage()
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, key)
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def peak_of(config: TrainConfig, classes: int, pictures: int, *, checkpointing: bool) -> Peak:
    """Of an update with so many pictures of ``data.train_size`` at a time, and of those of ``data.fix_share``.

    With bf16 or fp16 what is kept is of that precision, and weights are cast once. The network of ``config`` is built
    without data; ``data.channels`` must be decided.
    """
    model, data = config.model, config.data
    shown = model.model_dump_json(include={"name", "options", "freeze", "norms"})
    sides = data.train_size, data.image_size
    half = config.precision != "fp32"
    return _peak(shown, classes, data.channels, sides, pictures, checkpointing, half, bool(data.fix_share))


@lru_cache(maxsize=64)
def _peak(
    shown: str,
    classes: int,
    channels: int,
    sides: tuple[int, int],
    pictures: int,
    checkpointing: bool,
    half: bool,
    fixed: bool,
) -> Peak:
    """Counted once for equal settings: the trainings of a study or a search ask again and again.

    shown: JSON of the fields of ``ModelConfig`` that decide. sides: while training, and when answering. fixed: whether
    a part of the updates is of ``data.fix_share``.
    """
    model = ModelConfig.model_validate_json(shown)
    options: dict[str, Any] = dict(model.options)
    with torch.device("meta"):
        net = create(model.name, num_classes=classes, in_channels=channels, **options)
    freeze(net, model.freeze)
    net.checkpointing = checkpointing
    weights = sum(p.nbytes for p in net.parameters())
    state = sum(value.nbytes for value in net.state_dict().values())
    cast = 0
    if half:
        net, cast = net.bfloat16(), weights  # half for a copy of the weights, half since gradients stay fp32
    set_training(net, model)
    kept, most = measure(net, pictures, sides[0])
    if fixed:
        fix(net, model)
        most = max(most, measure(net, pictures, sides[1])[1])
    answering = measure_answering(net, pictures, sides[1])
    return Peak(kept, most + cast, weights, state, answering + cast)


def measure(net: ResNet, pictures: int, side: int) -> tuple[int, int]:
    """Bytes kept by a forward pass, and the most until the end of the backward pass, on the network's own device."""
    images = _images(net, pictures, side)
    labels = torch.zeros(pictures, dtype=torch.long, device=images.device)
    with LiveBytes() as live:
        loss = F.cross_entropy(net(images), labels)
        kept = live.now
        loss.backward()  # type: ignore[no-untyped-call]
    return kept, live.most


@torch.no_grad()
def measure_answering(net: ResNet, pictures: int, side: int) -> int:
    """Bytes at the most of a forward pass in evaluation mode, which the network has afterwards."""
    images = _images(net.eval(), pictures, side)
    with LiveBytes() as live:
        net(images)
    return int(live.most)


def _images(net: ResNet, pictures: int, side: int) -> Tensor:
    """In the memory format of training, which the network gets, too."""
    like = next(net.parameters())
    net.to(memory_format=torch.channels_last)
    images = torch.zeros(pictures, net.in_channels, side, side, device=like.device, dtype=like.dtype)
    return images.contiguous(memory_format=torch.channels_last)
