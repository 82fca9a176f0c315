"""Embeddings of many pictures and their mirror images by a network that stays as it is, through the fast runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resight.exporting.onnx import Answering, export_onnx
from resight.inference import BATCH, batched, map_ordered, open_backend
from resight.models import ResNet
from resight.recipes import TrainConfig

Floats = NDArray[np.float32]
Embed = Callable[[NDArray[np.uint8]], Floats]
_EMBEDDING = "embedding"
_AT_ONCE = 64  # squares that a GPU answers at a time


@contextmanager
def embedder(net: ResNet, config: TrainConfig) -> Iterator[tuple[Embed, int]]:
    """A function from squares uint8 (N, S, S, C) to embeddings float32 (N, D), and the threads to call it from.

    On the CPU it is ONNX Runtime over a temporary graph of ``net``, as for answering: also where other backends are
    installed, so that what is trained does not depend on that. On another device it is the network itself. Leaves
    ``net`` in evaluation mode.
    """
    answering = Answering(net, config.data.mean, config.data.std, 1.0)
    if config.device != "cpu":
        yield _on_device(answering, torch.device(config.device)), 1
        net.cpu()
        return
    threads = max(1, config.threads)
    with tempfile.TemporaryDirectory(prefix="resight-") as folder:
        path = Path(folder) / "backbone.onnx"
        export_onnx(answering, config.data.image_size, path)
        backend = open_backend("onnxruntime", path, threads, callers=threads)
    yield lambda pixels: backend.answer(pixels, (_EMBEDDING,))[0], threads


def _on_device(answering: Answering, device: torch.device) -> Embed:
    answering.to(device)

    @torch.inference_mode()
    def embed(pixels: NDArray[np.uint8]) -> Floats:
        found: Floats = answering(torch.from_numpy(pixels).to(device))[2].float().cpu().numpy()
        return found

    return embed


def features_of(
    embed: Embed,
    square: Callable[[int], NDArray[np.uint8]],
    indices: NDArray[np.int64],
    *,
    mirror: bool,
    threads: int,
) -> Floats:
    """float32 (N, V, D): of the pictures ``indices``, in order, as they are and, with ``mirror``, mirrored (V is 2).

    square: of a position the square uint8 (S, S, C) that answers are made from. It is called from ``threads`` threads,
    each of which reads and answers pictures of its own. Each picture is read once.
    """

    def answer(some: list[int]) -> Floats:
        plain = np.stack([square(index) for index in some])
        views = [plain, plain[:, :, ::-1]] if mirror else [plain]
        return np.stack([embed(np.ascontiguousarray(view)) for view in views], axis=1)

    groups = batched(indices.tolist(), BATCH if threads > 1 else _AT_ONCE)
    return np.concatenate(list(map_ordered(answer, groups, threads=threads, window=2 * threads)))
