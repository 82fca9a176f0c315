"""Trainings that need no files, for measuring steps: pictures of noise in memory, and what a step costs in FLOPs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from resight.models import count_macs, create
from resight.recipes import Facts, TrainConfig, override, recipe
from resight.samples import Sample
from resight.training import machine, prepare
from resight.training.fit import Training
from resight.training.loader import Pictures
from resight.training.objective import Supervised
from resight.training.progress import Silent

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def noise(count: int, size: int, classes: int) -> Pictures:
    """Pictures that are drawn once and stay in memory; what they show does not matter for speed."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    samples = [Sample(str(number), number, number % classes, "train") for number in range(count)]
    return Pictures(samples, lambda sample: pixels[sample.index or 0], 2**34)


def configure(model: str, size: int, batch: int, name: str, classes: int, **wishes: Any) -> TrainConfig:
    """The recipe ``name`` for such pictures, resolved, on the CPU; ``wishes`` with ``__`` for the dot."""
    base = recipe(name, Facts(count=50_000, classes=classes, side=size))
    changes: dict[str, Any] = {
        "model.name": model,
        "data.image_size": size,
        "data.train_size": size,
        "data.start_scale": 1.0,  # the size is the one that was asked for, from the first step on
        "data.channels": 3,
        "data.mean": MEAN,
        "data.std": STD,
        "batch": batch,
        "total_steps": 10_000,
        "device": "cpu",
        "precision": "fp32",
    }
    return override(base, changes | {field.replace("__", "."): value for field, value in wishes.items()})


def training(config: TrainConfig, classes: int, pictures: Pictures | None = None) -> Training:
    """As ``resight train`` builds it, threads and the allocator apart; four batches of pictures unless given."""
    pictures = pictures or noise(4 * config.batch, config.data.train_size, classes)
    net = prepare.build_net(config, classes, None, lambda _: None)
    return Training(None, config, Supervised(net, config), pictures, pictures, Silent())  # type: ignore[arg-type]


def use_machine(*, keep_memory: bool = True) -> None:
    """Threads and the allocator as ``resight train`` sets them."""
    machine.set_threads(0)
    if keep_memory:
        machine.keep_memory()


def seconds(step: Callable[[], Any], *, warm: int, timed: int) -> float:
    """Median seconds of ``step`` over ``timed`` calls, after ``warm`` others."""
    times = []
    for number in range(warm + timed):
        start = time.perf_counter()
        step()
        if number >= warm:
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def our_step(found: Training, batches: int = 2) -> Callable[[], None]:
    """One update at a time, from batches that are ready."""
    ready = itertools.cycle([found.loader.make(step) for step in range(batches)])
    return lambda: found.update(next(ready))


def training_flops(model: str, size: int, classes: int) -> int:
    """Floating-point operations that one picture costs in one update, two for each multiply-accumulate.

    Forward, and twice as much backward: for the weights and for the inputs. The pictures themselves need no gradient,
    so the first convolution is counted once less. Norms, activations and the optimizer are not counted.
    """
    net = create(model, num_classes=classes)
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        outputs = first(torch.zeros(1, 3, size, size)).numel()
    kernel = first.in_channels * first.kernel_size[0] * first.kernel_size[1]
    return 2 * (3 * count_macs(net, size) - outputs * kernel)


def product_flops_per_second(side: int = 4096) -> float:
    """Of a large fp32 matrix product, the practical limit of this machine."""
    a, b, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
    return 2 * side**3 / seconds(lambda: torch.mm(a, b, out=out), warm=1, timed=3)
