"""Embeddings of many pictures and their mirror images by a network that stays as it is."""

from __future__ import annotations

import hashlib
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
from resight.models import ResNet, count_macs, read_weights
from resight.recipes import TrainConfig
from resight.samples import SampleSet
from resight.training import prepare, reading
from resight.training.loader import Pictures
from resight.transfer.probe import FOLDS, Floats, Head, Labels

Pixels = NDArray[np.uint8]
_EMBEDDING = "embedding"
OWN = "the last layer of the weights"
"""Said of a first rung whose head is not a regression, but what the weights bring."""
_AT_ONCE = 32  # pictures that the network itself answers at a time
WORTH = 4e12
"""Multiply-accumulates from which a graph for the runtime is made. Exporting takes 3 to 8 s of a core, and saves 3 %
(ResNet-18) to 13 % (ResNet-50) of each answer at 224 px (docs/experiments.md)."""
_NUMBERS = 2**25
"""Of all embeddings of training pictures together, at most: 32,768 pictures and their mirror images by a ResNet-18."""


@dataclass(frozen=True)
class Frozen:
    """What a network that stays as it is makes of the training and the validation part.

    train: float32 (N, V, D), V views of each picture: itself and, where that means the same, its mirror image; of all
    training pictures, or of as many as ``most_pictures`` says. val: float32 (M, 1, D). labels, truth: of both, int64.
    keys, groups: (source, index) and group of the training pictures. own: the last layer of the weights, where it
    answers with the same classes. fresh: computed now, not by an earlier training.
    """

    train: Floats
    val: Floats
    labels: Labels
    truth: Labels
    keys: list[tuple[str, int | None]]
    groups: list[str | None]
    own: Head | None
    fresh: bool


Seen = dict[str, tuple[Floats, Floats]]
"""Features of the training and the validation pictures, float32 (N, V, D) and (M, 1, D), by what they depend on: for
trainings that come one after another in one process, as in a study."""


def frozen(
    config: TrainConfig,
    samples: SampleSet,
    train: Pictures,
    val: Pictures,
    say: Callable[[str], None],
    seen: Seen | None = None,
) -> Frozen:
    """Features of the parts as the loop takes them; looked up in ``seen``, or computed and added to it."""
    source = read_weights(config.model.weights or "", config.model.name)
    net = prepare.build_net(config, len(samples.classes), source, lambda _: None)
    own = Head(net.fc.weight.detach().numpy().copy(), net.fc.bias.detach().numpy().copy())
    mirror = config.augment.flip != "none"
    if config.augment.crop == "resized" or config.data.train_size != config.data.image_size:
        train = reading.eval_pictures(samples, "train", config, say)  # what the loop takes is not what is answered
    chosen = some(train.labels, most_pictures(net.fc.in_features, 1 + mirror), config.seed)
    known = {} if seen is None else seen
    name = _name_of(net, config, samples, chosen, mirror)
    if fresh := name not in known:
        everything = np.arange(len(val), dtype=np.int64)
        with embedder(net, config, len(chosen) * (1 + mirror) + len(everything)) as embed:
            of_train = features_of(embed, train.__getitem__, chosen, mirror=mirror)
            known[name] = of_train, features_of(embed, val.__getitem__, everything, mirror=False)
    pictures = [train.samples[index] for index in chosen]
    return Frozen(
        *known[name],
        labels=train.labels[chosen],
        truth=val.labels,
        keys=[(sample.source, sample.index) for sample in pictures],
        groups=[sample.group for sample in pictures],
        own=own if source.classes == samples.classes else None,
        fresh=fresh,
    )


def _name_of(net: ResNet, config: TrainConfig, samples: SampleSet, chosen: Labels, mirror: bool) -> str:
    """Equal where features are: the same weights answer the same pictures, prepared alike, by the same arithmetic."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if not name.startswith("fc."):  # the last layer answers, it makes no features
            digest.update(name.encode())
            digest.update(value.contiguous().numpy())
    data = config.data
    settings = (reading.geometry_of(config).to_dict(), data.channels, data.mean, data.std, mirror)
    digest.update(repr((settings, config.device, config.threads, samples.fingerprint())).encode())
    digest.update(chosen.tobytes())
    return digest.hexdigest()


def some(labels: Labels, most: int, seed: int) -> Labels:
    """Positions of at most ``most`` pictures, drawn by the seed, in order: of each class one for each fold, as far as
    it has them, and the rest as they come.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rounds[mine] = np.minimum(np.arange(len(mine)), FOLDS)
    found: Labels = np.sort(order[np.argsort(rounds[order], kind="stable")][:most])
    return found


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
