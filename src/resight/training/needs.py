"""What a training needs of memory, for each way in which it can be done."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resight.inference.predictor import BATCH
from resight.models import create, spec_of
from resight.recipes.config import TrainConfig
from resight.runs import Run
from resight.samples import SampleSet
from resight.training import machine
from resight.training.live import Peak, measure_answering, peak_of
from resight.training.memory import resident
from resight.training.reading import ARRAYS

Sizes = NDArray[np.int64]

GIB = 2**30
OVERHEAD = 1.25
"""What an update takes of the system, as a multiple of the bytes of its tensors: blocks that the allocator cannot use
again, and what convolutions work in. Measured: docs/deeper.md."""
FIRST = 100 * 2**20
"""Bytes of the libraries' own that training takes when it first computes. Measured: docs/deeper.md."""
SEALING = 200 * 2**20
"""Bytes of the libraries that sealing loads (ONNX Runtime, scikit-learn, matplotlib). Measured: docs/deeper.md."""
COPIES = 7
"""Of the weights while they are sealed: the network's, those of the checkpoint (with the optimizer's state and the
average), the graph's as it is built, written and answered with. Measured: docs/deeper.md."""
LOGITS = 64
"""Pictures that the network answers at a time after training, where as many were trained at a time."""
_CHECKED = 1000  # pictures of validation by which the seal compares the graph with the network
_STATES = {"sgd": 1, "muon": 1, "adamw": 2, "lamb": 2}


@dataclass(frozen=True)
class Way:
    """One way to train. needed: bytes at the peak, decoded pictures left out; fixed: those of them that do not depend
    on the size of the pictures.
    """

    checkpointing: bool
    micro_batch: int
    needed: int
    fixed: int


def ways_of(config: TrainConfig, samples: SampleSet) -> Iterator[Way]:
    """In the order in which they are tried. Counting takes a moment, so a way is counted when it is asked for."""
    share = max(1, config.batch // int(os.environ.get("WORLD_SIZE", "1")))
    share = min(config.micro_batch or share, share)
    asked = config.model.checkpointing
    stages = len(spec_of(config.model.name, **config.model.options).depths)
    frozen = config.model.freeze in ("backbone", f"stage{stages}")  # then nothing is kept that could be computed again
    kinds = [asked] if asked != "auto" else [False] if frozen else [False, True]
    fewer = [] if config.micro_batch else list(_halvings(share))
    if config.auto_batch:
        order = [(kind, count) for kind in kinds for count in (share, *fewer)]
    else:
        order = [(kind, share) for kind in kinds] + [(kinds[-1], count) for count in fewer]
    known: dict[bool, Peak] = {}
    teacher, answering = _teacher(config, share)
    for kind, count in order:
        if kind not in known:
            peak = peak_of(config, len(samples.classes), share, checkpointing=kind)
            known[kind] = replace(peak, most=max(peak.most, peak.kept + answering))
        yield Way(kind, count, *_most(config, known[kind], count, share, teacher, len(samples.part("val"))))


def _teacher(config: TrainConfig, pictures: int) -> tuple[int, int]:
    """Bytes of the weights that are learned from, and at the most while they answer so many pictures; 0 without."""
    if not config.distill.teacher:
        return 0, 0
    card = Run.open(Path(config.distill.teacher), verify=False).card
    options: dict[str, Any] = card.architecture.options
    with torch.device("meta"):
        net = create(card.architecture.name, num_classes=len(card.classes), in_channels=card.channels, **options)
    return sum(v.nbytes for v in net.state_dict().values()), measure_answering(net, pictures, card.geometry.size)


def _most(config: TrainConfig, peak: Peak, count: int, share: int, teacher: int, validated: int) -> tuple[int, int]:
    """Bytes at the moment that takes most: in an update, while a checkpoint is written, or while the Run is sealed; and
    those of them that do not depend on the size of the pictures.

    peak: of ``share`` pictures, of which ``count`` go through at a time. teacher: bytes of weights that are learned
    from. validated: pictures of validation, some of which the seal holds at once.
    """
    states = _STATES[config.optimizer.name] * peak.weights
    average = peak.state if config.optimizer.average_epochs else 0
    learning = teacher + peak.state + states + 2 * average  # with a copy of the weights while the average is validated
    update = OVERHEAD * count / share * max(0, peak.most - peak.weights)
    if config.device == "cuda":
        fixed = learning + OVERHEAD * peak.weights
        return int(fixed + update), int(fixed)
    data, here = config.data, resident()
    waiting = (data.workers + 2) * config.batch * data.channels * data.train_size**2
    answered = max(min(LOGITS, count), BATCH * machine.available_cores())  # ONNX Runtime: a batch in each thread
    checked = min(_CHECKED, validated) * data.channels * data.image_size**2
    moments = [
        # The gradients, and what the optimizer computes of all weights at once.
        (here + FIRST + learning + (OVERHEAD + 1) * peak.weights, update + waiting),
        (here + FIRST + learning + peak.state + states + average + peak.state, float(waiting)),
        (here + SEALING + OVERHEAD * COPIES * peak.state, OVERHEAD * answered / share * peak.answering + checked),
    ]
    fixed, scaled = max(moments, key=sum)
    return int(fixed + scaled), int(fixed)


def _halvings(share: int) -> Iterator[int]:
    while share > 1:
        share = -(-share // 2)
        yield share


def decoded_bytes(config: TrainConfig, samples: SampleSet, sizes: Sizes) -> int:
    """Bytes of the decoded pictures that will stay in memory, as far as ``data.cache_gb`` lets them: a part that does
    not fit goes to the disk's cache as a whole, where there is one. On a GPU none: they stay in the machine's memory,
    which is another one.
    """
    if config.device == "cuda" or not len(sizes):
        return 0
    data, area = config.data, float(config.data.train_size**2)
    if config.augment.crop == "resized":  # whole pictures, see ``reading.train_pictures``
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
