"""From measured rates to seconds and bytes of a whole training: arithmetic only, so that a test can check it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from resight.inference.unknown import bank_size
from resight.recipes import TrainConfig
from resight.training.phases import size_at
from resight.transfer.features import most_pictures
from resight.transfer.weighing import due

Points = dict[int, float]
"""By side in pixels."""


@dataclass(frozen=True)
class NetRates:
    """One network on this machine, with its options and the recipe's optimizer.

    update: seconds of an update that do not depend on the pictures. train, answer: seconds for one picture to learn
    from, and to answer in PyTorch, by side. activations: bytes kept for backward of a picture of ``side`` pixels.
    weights: bytes of the parameters. saved: bytes of a checkpoint. writing: seconds to write one. exporting: seconds to
    write the graph, beyond those of the smallest network; export_bytes: memory that this took; file: bytes of the
    graph. embedding: its length. gpu: peak bytes of a GPU's memory in an update, by side. one, many: pictures a second
    of the graph, asked one after the other and for many, by side.
    """

    update: float
    train: Points
    answer: Points
    activations: float
    side: int
    weights: int
    saved: int
    writing: float
    exporting: float
    export_bytes: int
    file: int
    embedding: int
    gpu: Points = field(default_factory=dict)
    one: Points = field(default_factory=dict)
    many: Points = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ReadRates:
    """Seconds to make one picture of a batch, for the first time and once it is kept; seconds to make a square of one
    for answering; bytes that one takes while it is kept, for training and for validation."""

    first: float
    again: float
    square: float
    kept: float
    kept_square: float


@dataclass(frozen=True)
class Basics:
    """What every training takes here, whatever the network: seconds from the start to the first update and for sealing
    with a handful of pictures; bytes of memory of both; seconds to evaluate the parts, and to fit the reference, by the
    length of the embedding."""

    fixed: float
    trained_bytes: int
    sealed_bytes: int
    evaluating: float
    reference: Points


@dataclass(frozen=True)
class Work:
    """How much there is to do: pictures by part, threads, cores, whether files must be decoded, seconds to list all and
    to check one."""

    train: int
    val: int
    test: int
    cores: int
    threads: int
    listing: float
    check: float
    measure: bool


def at(points: Points, side: int) -> float:
    """Cost at ``side``, linear in the number of pixels between measured sides, and in proportion to them beyond."""
    if not points:
        raise ValueError("nothing was measured")
    sides = sorted(points)
    if side <= sides[0] or len(sides) == 1:
        return points[sides[0]] * (side / sides[0]) ** 2
    if side >= sides[-1]:
        return points[sides[-1]] * (side / sides[-1]) ** 2
    return float(np.interp(side**2, [s**2 for s in sides], [points[s] for s in sides]))


def step_seconds(config: TrainConfig, net: NetRates, work: Work, read: float, side: int) -> float:
    """One update while loader threads make the next batches. ``read``: seconds to make one picture.

    The slowest of: the update itself, making a batch, and both together on all cores.
    """
    update = net.update + config.batch * at(net.train, side)
    making = config.batch * read
    if config.device != "cpu":
        return max(update, making / max(1, config.data.workers))
    if config.data.workers == 0:
        return update + making
    return max(update, making / config.data.workers, (update * work.threads + making) / max(work.cores, work.threads))


def parts(config: TrainConfig, net: NetRates, read: ReadRates, basics: Basics, work: Work) -> dict[str, float]:
    """Seconds of the whole training, by what they go into."""
    per_epoch = max(1, work.train // config.batch)
    sides = Counter(size_at(config, step) for step in _steps(config))
    share = config.total_steps / max(1, sides.total())
    later = sum(n * step_seconds(config, net, work, read.again, side) for side, n in sides.items()) * share
    first = min(per_epoch, config.total_steps)
    side = size_at(config, 0)
    decoding = first * (
        step_seconds(config, net, work, read.first, side) - step_seconds(config, net, work, read.again, side)
    )
    epochs = math.ceil(config.total_steps / per_epoch)
    answer = at(net.answer, config.data.image_size)
    graph = 1 / at_rate(net.many, config.data.image_size)
    bank = min(work.train, bank_size(net.embedding))
    checked = min(1000, work.val)
    seen = 2 if config.augment.flip != "none" else 1  # of each picture the probe sees its mirror image, too
    looked_at = min(work.train, most_pictures(net.embedding, seen))
    probed = (seen * looked_at + work.val) * graph + work.val * answer if config.transfer.rung != "none" else 0.0
    by_graph = (2 * work.val + work.test + bank) * (graph + read.square / work.cores)
    return {
        "start": basics.fixed + work.listing,
        "check": work.check * (work.train + work.val + work.test),
        "statistics": min(2000, work.train) * read.first / work.cores if work.measure else 0.0,
        "features": probed,
        "folds": (config.transfer.folds - 1) * later
        if due(config, work.train, work.val)
        else 0.0,  # each of the others' pictures
        "updates": later + decoding,
        "validation": work.val * (epochs * answer + read.square),
        "checkpoints": (epochs + 1) * net.writing,
        "sealing": net.exporting
        + work.val * (answer + read.square)
        + checked * (answer + read.square + graph)
        + by_graph
        + basics.evaluating
        + _nearest(basics.reference, net.embedding),
    }


def at_rate(rates: Points, side: int) -> float:
    """A rate at ``side``: interpolated as seconds."""
    return 1 / at({s: 1 / rate for s, rate in rates.items()}, side)


def _nearest(reference: Points, length: int) -> float:
    """Seconds grow with the square of the length, from the nearest that was measured."""
    known = min(reference, key=lambda n: abs(math.log(n / length)))
    return reference[known] * max(1.0, length / known) ** 2


def _steps(config: TrainConfig) -> range:
    return range(0, config.total_steps, max(1, config.total_steps // 1000))


OVERHEAD = 1.2
"""What activations take, as a multiple of what is kept for the backward pass: fitted to six trainings, docs/advise.md.
"""


def memory(config: TrainConfig, net: NetRates, read: ReadRates, basics: Basics, work: Work) -> int:
    """Peak bytes: of the process on a CPU, of the GPU's memory on a GPU."""
    if net.gpu:
        return int(at(net.gpu, config.data.train_size))
    room = config.data.cache_gb * 2**30
    taken = min(work.train, config.total_steps * config.batch)
    pictures = min(room, taken * read.kept) + min(room / 4, work.val * read.kept_square)
    # Those that mean and deviation were measured on are given back, but the allocator keeps their blocks.
    pictures += min(2000, work.train) * read.kept if work.measure else 0
    share = config.micro_batch or config.batch
    kept = net.activations * (config.data.train_size / net.side) ** 2 * share
    # The network, its gradients, a file of them being written; the state; and the checkpoint that is read at the end.
    copies = 3 * net.weights + 2 * net.saved
    learning = basics.trained_bytes + pictures + copies + OVERHEAD * kept
    # What training gave back is kept by the allocator; sealing loads libraries on top of it, and holds the graph twice.
    sealing = learning - net.saved + (basics.sealed_bytes - basics.trained_bytes) + 2 * net.weights + net.export_bytes
    return int(max(learning, sealing))
