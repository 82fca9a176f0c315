"""P1 on a GPU: pictures a second in training, Resight beside a step as torchvision's reference writes it with --amp.

    python benchmarks/train_step_gpu.py [--rounds 5] [--without-compiled]

Batches lie on the GPU already, for both. The other side: eager, NCHW, autocast to fp16 with a gradient scaler, pictures
that are float and normalised already, cuDNN choosing by measurement, the loss and accuracy that it logs read back.
Resight: autocast to bf16, channels_last, uint8 that is normalised inside the step; once eager, once compiled. Sides
alternate in one process; the clock stops when the GPU is done.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import steps
from common import row, save
from resight.training.batches import to_device
from resight.training.fit import Training
from train_step import WITHOUT_AUGMENTATION, reference_net

CASES = {"resnet50": (224, 128, 1000), "resnet18": (224, 256, 1000), "resnet20": (32, 128, 10)}
"""Side, batch and classes of each network."""
TIMED = 20


def our_training(model: str, *, compiled: bool) -> Training:
    size, batch, classes = CASES[model]
    recipe = "he2015-cifar" if size == 32 else "he2015-imagenet"
    wishes = WITHOUT_AUGMENTATION | {"device": "cuda", "precision": "bf16", "compile": compiled}
    return steps.training(steps.configure(model, size, batch, recipe, classes, **wishes), classes)


def our_step(model: str, *, compiled: bool = False) -> Callable[[], None]:
    found = our_training(model, compiled=compiled)
    ready = itertools.cycle([to_device(found.loader.make(step), found.device) for step in range(2)])
    return lambda: found.update(next(ready))


def reference_step(model: str) -> Callable[[], None]:
    """torchvision's references/classification/train.py with --amp, in short."""
    size, batch, classes = CASES[model]
    net = reference_net(model, classes).cuda().train()
    images = torch.rand(batch, 3, size, size, device="cuda")
    labels = torch.arange(batch, device="cuda") % classes
    criterion, scaler = nn.CrossEntropyLoss(), torch.amp.GradScaler("cuda")
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    @torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True)
    def step() -> None:
        with torch.autocast("cuda"):
            output = net(images)
            loss = criterion(output, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()
        (output.argmax(1) == labels).sum().item()

    return step


def rate(step: Callable[[], None], batch: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(TIMED):
        step()
    torch.cuda.synchronize()
    return TIMED * batch / (time.perf_counter() - start)


def measure(model: str, rounds: int, *, compiled: bool) -> tuple[dict[str, list[float]], float]:
    """Pictures a second of each side in each round, and the seconds of the compiled side's first two steps."""
    sides = {"ours": our_step(model), "reference": reference_step(model)}
    if compiled:
        sides["compiled"] = our_step(model, compiled=True)
    first = 0.0
    for name, step in sides.items():
        start = time.perf_counter()
        step()
        step()
        torch.cuda.synchronize()
        if name == "compiled":
            first = time.perf_counter() - start
        rate(step, 1)  # clocks, allocator and cuDNN's choices settle
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            found[name].append(rate(step, CASES[model][1]))
    return found, first


def rows(model: str, found: dict[str, list[float]]) -> list[dict[str, Any]]:
    size, batch, _ = CASES[model]
    case = f"ResNet-{model.removeprefix('resnet')} at {size}, batch {batch}: the step"
    equal = "not compared: bf16 and fp16 round differently; tests/training/test_cuda.py compares with a CPU"
    theirs = ("torchvision's reference, --amp", found["reference"])
    ours = {"": "ours", ", compiled": "compiled"}
    return [
        row(case + suffix, ("Resight", found[side]), theirs, unit="pictures/s", target=None, equal=equal)
        for suffix, side in ours.items()
        if side in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-compiled", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here")
    lines: list[dict[str, Any]] = []
    compiling: list[str] = []
    for model in CASES:
        found, first = measure(model, args.rounds, compiled=not args.without_compiled)
        lines += rows(model, found)
        if first:
            compiling.append(f"{model}: the first two compiled steps took {first:.0f} s; this is not charged here.")
        torch.cuda.empty_cache()
    save(
        "P1-train-step-gpu",
        title="Training throughput on a GPU",
        target="",
        command="python benchmarks/train_step_gpu.py",
        rows=lines,
        notes=[
            f"On one {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}.",
            *compiling,
        ],
    )


if __name__ == "__main__":
    main()
