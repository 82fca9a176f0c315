"""Pictures in memory or on the disk, and batches as a pure function of the step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resight.errors import ImageError, LoaderFailed
from resight.recipes.config import TrainConfig
from resight.recipes.sections import AugmentConfig
from resight.samples import Sample
from resight.training.augment import Parameters, crop_resized, draw
from resight.training.balance import REPEAT, positions, sampled
from resight.training.phases import augment_at, fix_start, size_at
from resight.training.picture_cache import PictureCache, content_key
from resight.training.randomness import generator

Pixels = NDArray[np.uint8]
_ORDER_STREAM = 1
_TRIED = 8  # pictures that show how large a part will be


@dataclass
class View:
    """The same pictures, changed otherwise. pixels: uint8 (B, C, S, S), S of its own; parameters: as in ``Batch``."""

    pixels: Tensor
    parameters: Parameters


@dataclass
class Batch:
    """pixels: uint8 (B, C, S, S), channels-last in memory. labels: int64 (B,), or uint8 (B, K) in a multi-label set.
    indices: int64 (B,), positions in the training part. parameters: what is left for ``augment.apply`` to do. step: the
    update they belong to. tiles: how many each picture is cut into, int64 (B,); then pixels are as
    ``resight.training.bags.bag_batch`` makes them. others: further views of the same pictures, where there are some
    (``views_of``)."""

    pixels: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    parameters: Parameters
    step: int
    tiles: Tensor | None = None
    others: tuple[View, ...] = ()


@dataclass(frozen=True)
class Disk:
    """Where pictures are kept that do not fit into memory. file_bytes: the encoded picture of a sample."""

    cache: PictureCache
    file_bytes: Callable[[Sample], bytes]


class Pictures:
    """The pictures of one part, decoded when first asked for. ``pictures[i]`` is uint8 (H, W, C), not to be written to.

    ``read(sample)`` decodes and resizes one sample; ``read(sample, data)`` does so with its file's content. The part is
    kept in memory while it fits into ``cache_bytes``; a larger one on the ``disk``, if there is one, where later
    trainings find it. Where a picture is kept changes nothing but time. Safe to use from many threads: at worst a
    picture is decoded twice. ``labels``: the ``targets``, `SampleSet.targets`; else their ``label``, int64 (N,).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        read: Callable[..., Pixels],
        cache_bytes: int,
        disk: Disk | None = None,
        targets: NDArray[Any] | None = None,
    ) -> None:
        self.samples = samples
        self.labels = np.array([sample.label for sample in samples], np.int64) if targets is None else targets
        self._read = read
        self._kept: list[Pixels | None] = [None] * len(samples)
        self._room = cache_bytes
        self._disk = disk
        self._places = np.full(len(samples) if disk else 0, -1, np.int64)  # on the disk: shard and record in one number
        self._fits: bool | None = None if disk else True
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Pixels:
        kept = self._kept[index]
        if kept is not None:
            return kept
        if self._fits is None:
            self._decide()
            if (kept := self._kept[index]) is not None:
                return kept
        if self._fits or self._disk is None:
            pixels = self._read(self.samples[index])
            if not self._keep(index, pixels) and self._disk:
                self._fits = False  # larger than it looked: the rest goes to the disk
            return pixels
        return self._from_disk(index, self._disk)

    def ready(self) -> None:
        """Called in the training's thread before others ask for pictures."""

    def _decide(self) -> None:
        """Whether the part will fit into memory, by some pictures of it."""
        with self._lock:
            if self._fits is None:
                some = range(0, len(self), max(1, len(self) // _TRIED)) if self._room else ()
                tried = {index: self._read(self.samples[index]) for index in some}
                size = sum(pixels.nbytes for pixels in tried.values())
                self._fits = bool(tried) and size / len(tried) * len(self) <= self._room
                if self._fits:
                    for index, pixels in tried.items():
                        self._put(index, pixels)

    def _keep(self, index: int, pixels: Pixels) -> bool:
        """Whether there was room in memory."""
        with self._lock:
            return self._put(index, pixels)

    def _put(self, index: int, pixels: Pixels) -> bool:
        if self._kept[index] is None and self._room >= pixels.nbytes:
            self._kept[index] = _alone(pixels)
            self._room -= pixels.nbytes
        return self._kept[index] is not None

    def _from_disk(self, index: int, disk: Disk) -> Pixels:
        number = int(self._places[index])
        pixels = disk.cache.view((number >> 32, number & 0xFFFFFFFF)) if number >= 0 else None
        if pixels is not None:
            return pixels
        data = disk.file_bytes(self.samples[index])
        key = content_key(data)
        place = disk.cache.find(key)
        pixels = disk.cache.view(place) if place else None
        if pixels is None:
            pixels = self._read(self.samples[index], data)
            place = disk.cache.put(key, pixels)
            if place is None:
                self._keep(index, pixels)
        self._places[index] = -1 if place is None else place[0] << 32 | place[1]
        return pixels


def _alone(pixels: Pixels) -> Pixels:
    """The picture, copied where it is a part of a larger one (some of its rows) that it would keep in memory."""
    owner = pixels.base
    held = owner.nbytes if isinstance(owner, np.ndarray | memoryview) else len(owner) if isinstance(owner, bytes) else 0
    return pixels.copy() if held > pixels.nbytes else pixels


def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of the training pictures in an epoch: a permutation (count,), a function of seed and epoch."""
    return _shuffled(seed, epoch, count)


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, epoch, _ORDER_STREAM).permutation(count)


class TrainLoader:
    """Batches from any step on. Rank r of w takes every w-th picture of each batch.

    An epoch has ⌊N / batch⌋ steps; the few pictures left over differ from epoch to epoch. With ``balance.sampling`` a
    picture may come several times, changed differently each time, and another one not at all. answered: the same
    pictures as they will be answered, which ``data.fix_share`` needs.
    """

    def __init__(
        self,
        pictures: Pictures,
        config: TrainConfig,
        *,
        rank: int = 0,
        world: int = 1,
        answered: Pictures | None = None,
    ) -> None:
        self.pictures, self.answered = pictures, answered
        self.config = config
        self.rank, self.world = rank, world
        self.steps_per_epoch = len(pictures) // config.batch
        self._sampled: dict[int, NDArray[np.int64]] = {}  # the last two epochs: no cache that would keep pictures alive

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The pictures of an epoch (N,): each once, or as often as ``balance.sampling`` says (see ``sampled``)."""
        seed, sampling = self.config.seed, self.config.balance.sampling
        if sampling == "none":
            return shuffled(seed, epoch, len(self.pictures))
        if (found := self._sampled.get(epoch)) is None:
            found = sampled(seed, epoch, self.pictures.labels, sampling)
            self._sampled = {number: order for number, order in self._sampled.items() if number > epoch - 2}
            self._sampled[epoch] = found
        return found

    def make(self, step: int) -> Batch:
        """The batch of one step: which pictures, cut to size, and their augmentation parameters."""
        config = self.config
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * config.batch
        drawn = self.order(epoch)[start : start + config.batch][self.rank :: self.world]
        indices = positions(drawn)
        augment = augment_at(config, step)
        parameters = draw(augment, config.seed, epoch, drawn)
        if config.data.geometry == "tiles":
            from resight.training.bags import bag_batch
            from resight.training.reading import geometry_of

            pixels, count = bag_batch(self.pictures, indices, geometry_of(config))
            return Batch(pixels, torch.from_numpy(self.pictures.labels[indices]), indices, parameters, step, count)
        if step < fix_start(config):
            pixels = cut_pictures(self.pictures, indices, parameters, config, size_at(config, step))
        else:
            assert self.answered is not None
            pixels = next(eval_batches(self.answered, indices, len(indices)))
        if augment.crop == "resized":
            parameters = replace(parameters, flip=np.zeros(len(indices), bool))  # they are mirrored already
        labels = torch.from_numpy(self.pictures.labels[indices])
        others = tuple(
            view_of(self.pictures, config, number, epoch, drawn) for number in range(1, len(views_of(config)))
        )
        return Batch(pixels, labels, indices, parameters, step, others=others)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of the steps start … stop − 1, in order, made ahead by ``data.workers`` threads.

        A failure in a thread is raised here, at once: there are no worker processes that could hang.
        """
        workers = self.config.data.workers
        self.pictures.ready()
        if workers == 0:
            yield from map(self._make, range(start, stop))
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="resight-loader") as pool:
            ahead: deque[Future[Batch]] = deque()
            steps = iter(range(start, stop))
            try:
                for step in steps:
                    ahead.append(pool.submit(self._make, step))
                    if len(ahead) > workers + 1:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _make(self, step: int) -> Batch:
        try:
            return self.make(step)
        except (ImageError, MemoryError):
            raise
        except Exception as error:
            raise LoaderFailed(
                f"making the batch of step {step + 1} failed: {type(error).__name__}: {error}",
                hint="if files changed while training, restore them and continue with: resight resume",
            ) from error


def views_of(config: TrainConfig) -> list[tuple[AugmentConfig, int]]:
    """How each view of a picture is changed, and its side: one, but several while pretraining, small ones last."""
    pretrain, whole = config.pretrain, (config.augment, config.data.train_size)
    if pretrain.method == "none":
        return [whole]
    small = config.augment.model_copy(update={"scale_min": pretrain.local_min, "scale_max": pretrain.local_max})
    return [whole] * pretrain.views + [(small, pretrain.local_size)] * pretrain.local_views


def view_of(pictures: Pictures, config: TrainConfig, number: int, epoch: int, drawn: NDArray[np.int64]) -> View:
    """View ``number``, from 0, of the pictures ``drawn`` (B,): drawn as if they came for that many more times."""
    augment, size = views_of(config)[number]
    parameters = draw(augment, config.seed, epoch, drawn + number * REPEAT)
    changed = config.model_copy(update={"augment": augment})
    pixels = cut_pictures(pictures, positions(drawn), parameters, changed, size)
    if augment.crop == "resized":
        parameters = replace(parameters, flip=np.zeros(len(drawn), bool))
    return View(pixels, parameters)


def cut_pictures(
    pictures: Pictures, indices: NDArray[np.int64], parameters: Parameters, config: TrainConfig, size: int
) -> Tensor:
    """Pictures as training takes them: a random crop of each at ``size``, mirrored as drawn, or squares as they are
    kept.

    uint8 (B, C, S, S), channels-last in memory.
    """
    if config.augment.crop == "resized":
        bicubic = config.data.interpolation == "bicubic"
        return crop_resized((pictures[int(i)] for i in indices), parameters, config.augment, size, bicubic)
    return torch.from_numpy(np.stack([pictures[int(i)] for i in indices])).permute(0, 3, 1, 2)


def eval_batches(pictures: Pictures, indices: NDArray[np.int64], size: int) -> Iterator[Tensor]:
    """Pictures of a part in the given order. uint8 (≤ size, C, S, S)."""
    for start in range(0, len(indices), size):
        stack = np.stack([pictures[int(i)] for i in indices[start : start + size]])
        yield torch.from_numpy(stack).permute(0, 3, 1, 2)
