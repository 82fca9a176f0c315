"""Whether a training fits into memory, decided before it starts, and what is done where it does not.

In this order, because it costs least first: fewer decoded pictures stay in memory (they are read from the disk's cache
again); activations are computed again in the backward pass (Chen et al. 2016), which changes no bit of the result and
costs time; fewer pictures go through the network at a time, which changes what BatchNorm sees. With ``--batch auto``
the last two change places. Where nothing is left, the training is refused with what would fit.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from resight.errors import UsageError
from resight.models import create
from resight.recipes.config import TrainConfig
from resight.runs import Run
from resight.samples import SampleSet
from resight.training import machine
from resight.training.live import Peak, measure, measure_answering, peak_of
from resight.training.memory import available, peak_memory, resident
from resight.training.prepare import ARRAYS, build_net

Say = Callable[[str], None]
Sizes = NDArray[np.int64]

GIB = 2**30
OVERHEAD = 1.25
"""What an update takes of the system, as a multiple of the bytes of its tensors: blocks that the allocator cannot use
again, and what convolutions work in. Measured: docs/deeper.md."""
FIRST = 100 * 2**20
"""Bytes of the libraries' own that training takes when it first computes. Measured: docs/deeper.md."""
SEALING = 200 * 2**20
"""Bytes of the libraries that sealing loads (ONNX Runtime, scikit-learn, matplotlib). Measured: docs/deeper.md."""
COPIES = 5
"""Of the weights while they are sealed: the network's, the checkpoint's, the graph's as it is built, written and
answered with."""
SHARE = 0.9
"""Of what the machine has left, where nobody said how much may be taken."""
_STATES = {"sgd": 1, "muon": 1, "adamw": 2, "lamb": 2}
_TIMED, _ROUNDS = 2, 2  # pictures in the updates that the cost in time is measured by, and how often


@dataclass(frozen=True)
class Room:
    """bytes: what this process may take in all, on a GPU what the training may. wish: of ``--memory``."""

    bytes: int
    wish: bool

    def text(self) -> str:
        return f"{show(self.bytes)} {'are allowed (--memory)' if self.wish else 'are there'}"


@dataclass(frozen=True)
class Way:
    """One way to train. needed: bytes at the peak, decoded pictures left out; fixed: those of them that do not depend
    on the size of the pictures.
    """

    checkpointing: bool
    micro_batch: int
    needed: int
    fixed: int


def decide(config: TrainConfig, samples: SampleSet, sizes: Sizes, wishes: Mapping[str, Any], say: Say) -> None:
    """Settles ``model.checkpointing``, ``micro_batch`` and ``data.cache_gb`` by the memory there is, and says what had
    to change. What a wish names is not changed.

    sizes: int64 (n, 2), width and height of the pictures. Raises UsageError where the training does not fit.
    """
    if config.transfer.rung == "features":  # no updates
        config.model.checkpointing = False
        return
    room, ways = room_for(config), _ways(config, len(samples.classes))
    decoded = _decoded(config, samples, sizes)
    least = decoded if "data.cache_gb" in wishes else 0
    first = way = next(ways)
    while way.needed + least > room.bytes:
        last, way = way, next(ways, None)  # type: ignore[assignment]
        if way is None:
            raise _refusal(config, len(samples.classes), last, least, room)
    config.model.checkpointing = way.checkpointing
    if way.micro_batch < first.micro_batch:
        config.micro_batch = way.micro_batch
    kept = decoded
    if way.needed + decoded > room.bytes:
        parts = 1.25 + bool(config.data.fix_share)  # of data.cache_gb: validation may have a quarter of it
        config.data.cache_gb = math.floor((room.bytes - way.needed) / GIB / parts * 100) / 100
        kept = _decoded(config, samples, sizes)
    _tell(config, first, way, decoded, kept, room, say)


def _ways(config: TrainConfig, classes: int) -> Iterator[Way]:
    """In the order in which they are tried. Counting takes a moment, so a way is counted when it is asked for."""
    share = max(1, config.batch // int(os.environ.get("WORLD_SIZE", "1")))
    share = min(config.micro_batch or share, share)
    asked = config.model.checkpointing
    kinds = [False, True] if asked == "auto" else [asked]
    fewer = [] if config.micro_batch else list(_halvings(share))
    if config.auto_batch:
        order = [(kind, count) for kind in kinds for count in (share, *fewer)]
    else:
        order = [(kind, share) for kind in kinds] + [(kinds[-1], count) for count in fewer]
    known: dict[bool, Peak] = {}
    teacher, answering = _teacher(config, share)
    for kind, count in order:
        if kind not in known:
            peak = peak_of(config, classes, share, checkpointing=kind)
            known[kind] = replace(peak, most=max(peak.most, peak.kept + answering))
        yield _way(config, known[kind], teacher, kind, count, count / share)


def _teacher(config: TrainConfig, pictures: int) -> tuple[int, int]:
    """Bytes of the weights that are learned from, and at the most while they answer so many pictures; 0 without."""
    if not config.distill.teacher:
        return 0, 0
    card = Run.open(Path(config.distill.teacher), verify=False).card
    options: dict[str, Any] = card.architecture.options
    with torch.device("meta"):
        net = create(card.architecture.name, num_classes=len(card.classes), in_channels=card.channels, **options)
    return sum(v.nbytes for v in net.state_dict().values()), measure_answering(net, pictures, card.geometry.size)


def _way(config: TrainConfig, peak: Peak, teacher: int, checkpointing: bool, count: int, part: float) -> Way:
    """part: ``count`` as a share of the pictures that were counted. The peak is one of an update, of a checkpoint that
    is written, or of the seal: gradients of the weights, checkpoints and the graph do not shrink with the pictures.
    """
    states = _STATES[config.optimizer.name] * peak.weights
    average = peak.state if config.optimizer.average_epochs else 0
    learning = teacher + peak.state + states + 2 * average  # with a copy of the weights while the average is validated
    scaled = OVERHEAD * part * max(0, peak.most - peak.weights)
    if config.device == "cuda":
        fixed = learning + OVERHEAD * peak.weights
        return Way(checkpointing, count, int(fixed + scaled), int(fixed))
    waiting = (config.data.workers + 2) * config.batch * config.data.channels * config.data.train_size**2
    learning += resident() + FIRST + waiting
    moments = [
        (learning + OVERHEAD * peak.weights, scaled),
        (learning + 2 * peak.state + states + average, 0.0),
        (resident() + SEALING + COPIES * peak.state, OVERHEAD * part * peak.answering),
    ]
    fixed, scaled = max(moments, key=sum)
    return Way(checkpointing, count, int(fixed + scaled), int(fixed))


def _halvings(share: int) -> Iterator[int]:
    while share > 1:
        share = -(-share // 2)
        yield share


def room_for(config: TrainConfig) -> Room:
    """What this training may take: ``memory_gb``, else what is left here, shared by the processes on this machine."""
    if config.memory_gb:
        return Room(int(config.memory_gb * GIB), True)
    if config.device == "cuda":
        return Room(int(SHARE * torch.cuda.mem_get_info()[0]), False)
    return Room(resident() + int(SHARE * available() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), False)


def _decoded(config: TrainConfig, samples: SampleSet, sizes: Sizes) -> int:
    """Bytes of the decoded pictures that will stay in memory, as far as ``data.cache_gb`` lets them: a part that does
    not fit goes to the disk's cache as a whole, where there is one. On a GPU none: they stay in the machine's memory,
    which is another one.
    """
    if config.device == "cuda" or not len(sizes):
        return 0
    data, area = config.data, float(config.data.train_size**2)
    if config.augment.crop == "resized":  # whole pictures, see ``prepare.train_pictures``
        short = math.ceil(data.train_size / math.sqrt(config.augment.scale_min))
        if data.geometry != "crop" and config.augment.crop_from == "square":
            area = float(np.mean(np.minimum(short, sizes.max(axis=1)) ** 2))
        else:
            shorter = sizes.min(axis=1)
            area = float(np.mean(sizes.prod(axis=1) * np.where(shorter > 1.25 * short, short / shorter, 1.0) ** 2))
    disk = data.disk_cache_gb > 0 and samples.kind not in ARRAYS
    train, answered = len(samples.part("train")), data.channels * data.image_size**2

    def stay(count: float, most: float) -> float:
        return count if count <= most else 0 if disk else most

    most = data.cache_gb * GIB
    kept = stay(train * area * data.channels, most) + stay(len(samples.part("val")) * answered, most / 4)
    return int(kept + (stay(train * answered, most) if data.fix_share else 0))


def _tell(config: TrainConfig, first: Way, way: Way, decoded: int, kept: int, room: Room, say: Say) -> None:
    """One line, where somebody asked or something had to change."""
    changed = way != first
    if not (room.wish or config.auto_batch or changed or kept < decoded):
        return
    words = [f"memory: about {show(way.needed + kept)} with {way.micro_batch} pictures at a time, {room.text()}"]
    if changed:
        words.append(f"without what follows about {show(first.needed + decoded)}")
    if way.checkpointing and not first.checkpointing:
        cost = cost_in_time(config, room.bytes - resident())
        words.append(f"activations are computed again for the backward pass (checkpointing): {cost}")
    if way.micro_batch < first.micro_batch:
        words.append(
            f"updates still use {config.batch} pictures; BatchNorm sees {way.micro_batch} at once, "
            "which changes results slightly"
        )
    if kept < decoded:
        words.append(f"of the decoded pictures {show(kept)} stay in memory, instead of {show(decoded)}")
    say("; ".join(words))


def cost_in_time(config: TrainConfig, most: float) -> str:
    """Measured on this device, by forward and backward passes of two pictures with and without checkpointing; at a
    smaller size where these would take more than ``most`` bytes.
    """
    side = config.data.train_size
    with torch.device("meta"):
        net = build_net(config, 2, None, lambda _: None)
    while OVERHEAD * measure(net, _TIMED, side)[1] > most:
        if (side := side // 2) < 28:
            return "which takes longer (how much was not measured: there is no room)"
    net = build_net(config, 2, None, lambda _: None).to(torch.device(config.device))
    net.to(memory_format=torch.channels_last)
    net.train()
    images = torch.zeros(_TIMED, config.data.channels, side, side, device=config.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(_TIMED, dtype=torch.long, device=config.device)
    clock = time.perf_counter if config.device == "cuda" else time.process_time  # other programs disturb it less
    times = {True: math.inf, False: math.inf}
    for number, kind in enumerate((True, False) * (1 + _ROUNDS)):
        net.checkpointing = kind
        if kind:
            machine.return_memory()  # as in training
        else:
            machine.keep_memory()
        start = clock()
        F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        if config.device == "cuda":
            torch.cuda.synchronize()
        if number > 1:
            times[kind] = min(times[kind], clock() - start)
    machine.give_memory_back()
    ratio = times[True] / times[False]
    return f"an update takes about {ratio:.2f} times as long (measured with {_TIMED} pictures of {side} px)"


def _refusal(config: TrainConfig, classes: int, last: Way, decoded: int, room: Room) -> UsageError:
    """With what would fit: so much memory, a picture size, wishes that leave more ways."""
    needed, fixed = last.needed + decoded, last.fixed + decoded
    hints = []
    if room.wish:
        hints.append(f"--memory {math.ceil(10 * needed / GIB) / 10:g}G")
    if smaller := _largest(config, classes, (room.bytes - fixed) / max(1, needed - fixed), room.bytes - decoded):
        trained, answered = smaller
        hints.append(f"--image-size {answered}")
        hints[-1] += "" if trained == answered else f" --set data.train_size={trained}"
    wishes = {
        "model.checkpointing=false": config.model.checkpointing is False,
        "micro_batch": config.micro_batch > 0,
        "data.cache_gb": decoded > 0,
    }
    hints += [f"without {name}" for name, given in wishes.items() if given]
    count = "one picture" if last.micro_batch == 1 else f"{last.micro_batch} pictures"
    return UsageError(
        f"this training needs about {show(needed)} of memory with {count} at a time, "
        f"{'with' if last.checkpointing else 'without'} checkpointing; {room.text()}",
        hint=", or ".join(hints) or "take a smaller --model",
    )


def _largest(config: TrainConfig, classes: int, part: float, most: int) -> tuple[int, int] | None:
    """The sides, while training and when answering, of the largest pictures whose last way takes at most ``most``
    bytes; to 8 px, and None where there are none from 28 px on. part: of the bytes that go by the area, that there are.
    """
    trained, answered = config.data.train_size, config.data.image_size
    first = int(trained * math.sqrt(min(1.0, max(0.0, part)))) // 4 * 4
    for side in range(first, 27, -8):
        smaller = config.model_copy(deep=True)
        smaller.data.train_size, smaller.data.image_size = side, max(28, round(answered * side / trained / 4) * 4)
        *_, way = _ways(smaller, classes)
        if way.needed <= most:
            return side, smaller.data.image_size
    return None


def taken(config: TrainConfig) -> str:
    """One line: the most memory that this process has taken, beside what was allowed."""
    on_gpu = config.device == "cuda"
    most = torch.cuda.max_memory_reserved() if on_gpu else peak_memory()
    return f"memory: {show(most)} were taken at the most, {show(config.memory_gb * GIB)} were allowed"


def show(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
