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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from resight.errors import UsageError
from resight.recipes.config import TrainConfig
from resight.recipes.tiles import TILES
from resight.samples import SampleSet
from resight.training import machine
from resight.training.live import measure
from resight.training.memory import available, peak_memory, resident
from resight.training.needs import GIB, OVERHEAD, Sizes, Way, decoded_bytes, ways_of
from resight.training.prepare import build_net

Say = Callable[[str], None]

SHARE = 0.9
"""Of what the machine has left, where nobody said how much may be taken."""
_ROUNDS = 2  # of measuring the cost in time


@dataclass(frozen=True)
class Room:
    """bytes: what this process may take in all, on a GPU what the training may. wish: of ``--memory``."""

    bytes: int
    wish: bool

    def text(self) -> str:
        return f"{show(self.bytes)} {'are allowed (--memory)' if self.wish else 'are there'}"


def decide(config: TrainConfig, samples: SampleSet, sizes: Sizes, wishes: Mapping[str, Any], say: Say) -> None:
    """Settles ``model.checkpointing``, ``micro_batch`` and ``data.cache_gb`` by the memory there is, and says what had
    to change. What a wish names is not changed.

    sizes: int64 (n, 2), width and height of the pictures. Raises UsageError where the training does not fit.
    """
    if config.transfer.rung == "features" or config.data.geometry == TILES:  # no updates; not counted
        config.model.checkpointing = config.model.checkpointing is True
        return
    room, ways = room_for(config), ways_of(config, samples)
    decoded = decoded_bytes(config, samples, sizes)
    least = decoded if "data.cache_gb" in wishes else 0
    first = way = next(ways)
    while way.needed + least > room.bytes:
        last, way = way, next(ways, None)  # type: ignore[assignment]
        if way is None:
            raise _refusal(config, samples, last, least, room)
    config.model.checkpointing = way.checkpointing
    if way.micro_batch < first.micro_batch:
        config.micro_batch = way.micro_batch
    kept = decoded
    if way.needed + decoded > room.bytes:
        parts = 1.25 + bool(config.data.fix_share)  # of data.cache_gb: validation may have a quarter of it
        config.data.cache_gb = math.floor((room.bytes - way.needed) / GIB / parts * 100) / 100
        kept = decoded_bytes(config, samples, sizes)
    _tell(config, first, way, decoded, kept, room, say)


def room_for(config: TrainConfig) -> Room:
    """What this training may take: ``memory_gb``, else what is left here, shared by the processes on this machine."""
    if config.memory_gb:
        return Room(int(config.memory_gb * GIB), True)
    if config.device == "cuda":
        return Room(int(SHARE * torch.cuda.mem_get_info()[0]), False)
    return Room(resident() + int(SHARE * available() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), False)


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
    """Measured on this device, by forward and backward passes with and without checkpointing: of 8 pictures where they
    are small (of fewer, giving blocks back to the system looks dearer than it is), of 2 where they are not, and at a
    smaller size where these would take more than ``most`` bytes.
    """
    side = config.data.train_size
    count = 8 if side <= 64 else 2
    with torch.device("meta"):
        net = build_net(config, 2, None, lambda _: None)
    while OVERHEAD * measure(net, count, side)[1] > most:
        if (side := side // 2) < 28:
            return "which takes longer (how much was not measured: there is no room)"
    net = build_net(config, 2, None, lambda _: None).to(torch.device(config.device))
    net.to(memory_format=torch.channels_last)
    net.train()
    images = torch.zeros(count, config.data.channels, side, side, device=config.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(count, dtype=torch.long, device=config.device)
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
    return f"an update takes about {ratio:.2f} times as long (measured with {count} pictures of {side} px)"


def _refusal(config: TrainConfig, samples: SampleSet, last: Way, decoded: int, room: Room) -> UsageError:
    """With what would fit: so much memory, a picture size, wishes that leave more ways."""
    needed, fixed = last.needed + decoded, last.fixed + decoded
    hints = []
    if room.wish:
        hints.append(f"--memory {math.ceil(10 * needed / GIB) / 10:g}G")
    if smaller := _largest(config, samples, (room.bytes - fixed) / max(1, needed - fixed), room.bytes - decoded):
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


def _largest(config: TrainConfig, samples: SampleSet, part: float, most: int) -> tuple[int, int] | None:
    """The sides, while training and when answering, of the largest pictures whose last way takes at most ``most``
    bytes; to 8 px, and None where there are none from 28 px on. part: of the bytes that go by the area, that there are.
    """
    trained, answered = config.data.train_size, config.data.image_size
    first = int(trained * math.sqrt(min(1.0, max(0.0, part)))) // 4 * 4
    for side in range(first, 27, -8):
        smaller = config.model_copy(deep=True)
        smaller.data.train_size, smaller.data.image_size = side, max(28, round(answered * side / trained / 4) * 4)
        *_, way = ways_of(smaller, samples)
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
