"""What is done to whole batches between the loader and the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resight.training.augment import Parameters
from resight.training.loader import Batch, View


def split(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in micro-batches of at most ``size`` pictures."""
    for start in range(0, len(batch.labels), size):
        part = slice(start, start + size)
        tiles = None if batch.tiles is None else batch.tiles[part]
        others = tuple(View(view.pixels[part], rows_of(view.parameters, part)) for view in batch.others)
        yield Batch(
            *(batch.pixels[part], batch.labels[part], batch.indices[part], rows_of(batch.parameters, part)),
            *(batch.step, tiles, others),
        )


def rows_of(parameters: Parameters, rows: slice | NDArray[np.int64]) -> Parameters:
    """Those of some pictures, by position."""
    return Parameters(**{f.name: getattr(parameters, f.name)[rows] for f in fields(Parameters)})


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves pixels and labels; from pinned memory and asynchronously to a CUDA device."""
    if device.type == "cpu":
        return batch

    def moved(tensor: Tensor) -> Tensor:
        tensor = tensor.pin_memory() if device.type == "cuda" else tensor
        return tensor.to(device, non_blocking=True)

    others = tuple(View(moved(view.pixels), view.parameters) for view in batch.others)
    return replace(batch, pixels=moved(batch.pixels), labels=moved(batch.labels), others=others)


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on ``device``; the next one is copied while the one at hand is used, on a stream of its own.

    On the CPU nothing moves, and nothing is held back.
    """
    if device.type == "cpu":
        yield from batches
        return
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream) if stream else nullcontext():
            moved = to_device(batch, device)
        if waiting is not None:
            yield waiting
        if stream:  # whoever computes with the batch waits for its copy, and keeps its memory until then
            current = torch.cuda.current_stream(device)
            current.wait_stream(stream)
            for tensor in (moved.pixels, moved.labels, *(view.pixels for view in moved.others)):
                tensor.record_stream(current)
        waiting = moved
    if waiting is not None:
        yield waiting
