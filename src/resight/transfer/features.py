"""Embeddings of many pictures and their mirror images by a network that stays as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resight.exporting.onnx import Answering, export_onnx
from resight.inference import BATCH, batched, map_ordered, open_backend
from resight.models import ResNet, count_macs
from resight.recipes import TrainConfig

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
_EMBEDDING = "embedding"
_AT_ONCE = 32  # pictures that the network itself answers at a time
WORTH = 4e12
"""Multiply-accumulates from which a graph for the runtime is made. Exporting takes 3 to 8 s of a core, and saves 3 %
(ResNet-18) to 13 % (ResNet-50) of each answer at 224 px (docs/experiments.md)."""
_NUMBERS = 2**25
"""Of all embeddings of training pictures together, at most: 32,768 pictures and their mirror images by a ResNet-18."""


def most_pictures(length: int, views: int) -> int:
    """How many training pictures the ladder looks at, at most. length: of an embedding; views: of each picture."""
    return max(1, _NUMBERS // (length * views))


@dataclass(frozen=True)
class Embedder:
    """``embed``: squares uint8 (N, S, S, C) → embeddings float32 (N, D). ``threads`` read pictures; with ``shared``
    each of them answers its own, too.
    """

    embed: Callable[[Pixels], Floats]
    threads: int
    shared: bool


@contextmanager
def embedder(net: ResNet, config: TrainConfig, answers: int) -> Iterator[Embedder]:
    """What embeds about ``answers`` squares with ``net``, which is left in evaluation mode on the CPU.

    Many on the CPU are answered by ONNX Runtime over a temporary graph: by no other backend, so that what is trained
    does not depend on what is installed. Few, or on another device, by the network itself: exporting would take longer
    than it saves. Which one is a function of the configuration and the number; they agree to about 1e-5.
    """
    answering = Answering(net, config.data.mean, config.data.std, 1.0)
    threads = max(1, config.threads)
    if config.device != "cpu" or answers * count_macs(net, config.data.image_size) < WORTH:
        yield Embedder(_network(answering, torch.device(config.device)), threads, shared=False)
        net.to("cpu").to(memory_format=torch.contiguous_format)
        return
    with tempfile.TemporaryDirectory(prefix="resight-") as folder:
        path = Path(folder) / "backbone.onnx"
        export_onnx(answering, config.data.image_size, path)
        backend = open_backend("onnxruntime", path, threads, callers=threads)
    yield Embedder(lambda pixels: backend.answer(pixels, (_EMBEDDING,))[0], threads, shared=True)


def _network(answering: Answering, device: torch.device) -> Callable[[Pixels], Floats]:
    answering.to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def embed(pixels: Pixels) -> Floats:
        found: Floats = answering(torch.from_numpy(pixels).to(device))[2].float().cpu().numpy()
        return found

    return embed


def features_of(
    embedder: Embedder, square: Callable[[int], Pixels], indices: NDArray[np.int64], *, mirror: bool
) -> Floats:
    """float32 (N, V, D): of the pictures ``indices``, in order, as they are and, with ``mirror``, mirrored (V is 2).

    square: of a position the square uint8 (S, S, C) that answers are made from; called from several threads. Each
    picture is read once.
    """

    def read(some: list[int]) -> list[Pixels]:
        plain = np.stack([square(index) for index in some])
        return [plain, np.ascontiguousarray(plain[:, :, ::-1])] if mirror else [plain]

    def answer(views: list[Pixels]) -> Floats:
        return np.stack([embedder.embed(view) for view in views], axis=1)

    threads, size = embedder.threads, BATCH if embedder.shared else _AT_ONCE
    groups = batched(indices.tolist(), size)
    if embedder.shared:
        parts = list(map_ordered(lambda some: answer(read(some)), groups, threads=threads, window=2 * threads))
    else:
        parts = [answer(views) for views in map_ordered(read, groups, threads=threads, window=2 * threads)]
    return np.concatenate(parts)
