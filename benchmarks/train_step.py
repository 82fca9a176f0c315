"""P1: pictures a second in training, Resight beside a step and a loop as torchvision's reference writes them.

    python benchmarks/train_step.py [--rounds 5] [--data DATA]

Steps: ResNet-18 at 224 px (batch 32) and ResNet-20 at 32 px (batch 128), SGD with momentum and cross-entropy on two
batches that are ready in memory. The other side is eager PyTorch in NCHW with pictures that are float and normalised
already; Resight's takes uint8 and normalises inside the step. In the same rounds a large matrix product tells what
the machine can do. With torch.compile, the time to compile is charged over 5,000 steps.

Loop: three epochs of ResNet-20 over the same JPEG files, decoding, shift-crop, flip and the optimizer included.

Sides alternate in processes of their own. Before that, one check: from equal weights and an equal batch, both sides
make the same update. DATA holds train/CLASS and test/CLASS; without it, 2,560 pictures are generated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import steps
from common import interleave, row, save, summary
from reference_loop import loaders, train_one_epoch
from resight import samples as data_sets
from resight.models import create
from resight.training import prepare, reading
from resight.training.augment import apply
from resight.training.fit import Training
from resight.training.loader import Batch
from resight.training.objective import Supervised
from resight.training.progress import Silent

CASES = {"resnet18": (224, 32, 1000, "he2015-imagenet"), "resnet20": (32, 128, 10, "he2015-cifar")}
"""Side, batch, classes and recipe of each network."""
TIMED = {"resnet18": 5, "resnet20": 20}
CHARGED = 5_000  # steps that bear the time to compile
EPOCHS, BATCH, SIZE = 3, 128, 32  # of the loop over files
CLOSE = 1e-5  # largest difference of a weight after one update in float64
WITHOUT_AUGMENTATION = {"augment__crop": "none", "augment__flip": "none"}


# ── one step ───────────────────────────────────────────────────────────────────────────────────────────────────


def our_training(model: str, **wishes: Any) -> Training:
    size, batch, classes, recipe = CASES[model]
    config = steps.configure(model, size, batch, recipe, classes, **WITHOUT_AUGMENTATION, **wishes)
    return steps.training(config, classes)


def step_ours(model: str) -> dict[str, float]:
    steps.use_machine()
    step = steps.our_step(our_training(model))
    return {"rate": CASES[model][1] / steps.seconds(step, warm=2, timed=TIMED[model])}


def step_compiled(model: str) -> dict[str, float]:
    """With the time to compile, from an empty cache: what the first two steps take beyond two of the later ones."""
    steps.use_machine()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        step = steps.our_step(our_training(model, compile=True))
        start = time.perf_counter()
        step()
        step()
        first = time.perf_counter() - start
        later = steps.seconds(step, warm=1, timed=TIMED[model])
    compiling = max(0.0, first - 2 * later)
    return {"rate": CASES[model][1] / (later + compiling / CHARGED), "compiling": compiling}


def step_reference(model: str) -> dict[str, float]:
    """torchvision's references/classification/train.py in short: forward, loss, backward, step, loss and accuracy."""
    size, batch, classes, _ = CASES[model]
    images, labels = torch.rand(batch, 3, size, size), torch.arange(batch) % classes
    step = reference_step(reference_net(model, classes), 0.1)
    return {"rate": batch / steps.seconds(lambda: step(images, labels), warm=2, timed=TIMED[model])}


def reference_net(model: str, classes: int) -> nn.Module:
    """torchvision's own where it has one; it has no networks for CIFAR."""
    if model == "resnet20":
        return create(model, num_classes=classes)
    from torchvision import models

    return models.get_model(model, num_classes=classes)


def reference_step(net: nn.Module, rate: float) -> Callable[[Tensor, Tensor], None]:
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    net.train()

    def step(images: Tensor, labels: Tensor) -> None:
        output = net(images)
        loss = criterion(output, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        (output.argmax(1) == labels).sum().item()

    return step


def product() -> dict[str, float]:
    steps.use_machine()
    return {"rate": steps.product_flops_per_second()}


# ── the loop over files ────────────────────────────────────────────────────────────────────────────────────────


def generate(root: Path, count: int = 2560) -> Path:
    """JPEG files of smooth noise, ten classes; the content does not matter for speed."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for part, every in (("train", 1), ("test", 20)):
            if number % every == 0:
                path = root / part / str(number % 10) / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path, quality=90)
    return root


def loop_training(data: Path) -> Training:
    samples = data_sets.load(data, val_fraction=0.01)
    wishes = {"model.name": "resnet20", "batch": BATCH, "epochs": EPOCHS, "label_smoothing": 0.0}
    config, _ = prepare.configure(samples, np.array([[SIZE, SIZE]]), wishes, "he2015-cifar")
    config.data.mean, config.data.std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    prepare.resolve_steps(config, len(samples.part("train")))
    net = prepare.build_net(config, len(samples.classes), None, print)
    pictures = reading.train_pictures(samples, config)
    return Training(None, config, Supervised(net, config), pictures, pictures, Silent())  # type: ignore[arg-type]


def loop_ours(data: Path) -> dict[str, float]:
    steps.use_machine()
    training = loop_training(data)
    start = time.perf_counter()
    for batch in training.loader.batches(0, training.config.total_steps):
        training.update(batch)
    return {"rate": training.config.total_steps * BATCH / (time.perf_counter() - start)}


def loop_reference(data: Path) -> dict[str, float]:
    train, _ = loaders(data, SIZE, BATCH, workers=2)
    net = create("resnet20", num_classes=len(train.dataset.classes))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        train_one_epoch(net, train, optimizer, nn.CrossEntropyLoss())
    return {"rate": EPOCHS * len(train) * BATCH / (time.perf_counter() - start)}


# ── equal outputs ──────────────────────────────────────────────────────────────────────────────────────────────


def largest_difference(training: Training, other: nn.Module, batch: Batch) -> float:
    """Both sides' weights after one update from equal weights on an equal batch: the largest difference.

    In float64, where what differs is the arithmetic and not its rounding: in float32 the sums over a million pixels in
    the first convolution's gradient agree to a hundredth only. ``other`` takes Resight's weights as they are: keys are
    torchvision's.
    """
    training.objective.double()
    other.double().load_state_dict(training.net.state_dict())
    pixels = apply(training.config.augment, batch.pixels, batch.parameters)
    reference_step(other, training.rate(0))(training.objective.normalize(pixels).contiguous(), batch.labels)
    training.update(batch)
    pairs = zip(other.state_dict().values(), training.net.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def checked(training: Training, other: nn.Module) -> str:
    """Says how equal the sides' updates are. Raises SystemExit where they are not."""
    difference = largest_difference(training, other, training.loader.make(0))
    if not difference < CLOSE:
        raise SystemExit(f"the sides do not make the same update: weights differ by {difference}")
    return f"one update in float64 from equal weights on an equal batch: weights differ by {difference:.1g} at most"


# ── the result ─────────────────────────────────────────────────────────────────────────────────────────────────

SIDES: dict[str, Callable[[Path], dict[str, float]]] = {
    "resnet18": lambda _: step_ours("resnet18"),
    "resnet18-compiled": lambda _: step_compiled("resnet18"),
    "resnet18-reference": lambda _: step_reference("resnet18"),
    "product": lambda _: product(),
    "resnet20": lambda _: step_ours("resnet20"),
    "resnet20-reference": lambda _: step_reference("resnet20"),
    "resnet20-compiled": lambda _: step_compiled("resnet20"),
    "loop": loop_ours,
    "loop-reference": loop_reference,
}


def rows(found: dict[str, list[dict[str, float]]], equal: dict[str, str]) -> list[dict[str, Any]]:
    rates = {side: values_of(found, side, "rate") for side in found}
    flops = steps.training_flops("resnet18", *CASES["resnet18"][::2])
    reference, unit = "torchvision's reference", "pictures/s"

    def against(case: str, side: str, target: float | None, model: str) -> dict[str, Any]:
        theirs, how = (reference, rates[f"{model}-reference"]), equal[model]
        if side.endswith("-compiled"):
            how = "not compared here; tests/soak/test_compile.py trains compiled and eager networks side by side"
        return row(case, ("Resight", rates[side]), theirs, unit=unit, target=target, equal=how)

    return [
        against("ResNet-18 at 224, batch 32: the step", "resnet18", 1.3, "resnet18"),
        against("ResNet-20 at 32, batch 128: the step", "resnet20", 1.15, "resnet20"),
        row(
            "ResNet-18's step beside a product of two 4096² matrices",
            ("Resight", [rate * flops / 1e9 for rate in rates["resnet18"]]),
            ("matrix product", [rate / 1e9 for rate in rates["product"]]),
            unit="GFLOP/s",
            target=0.8,
            equal="",
        ),
        against("ResNet-18 at 224: the step, compiled", "resnet18-compiled", None, "resnet18"),
        against("ResNet-20 at 32: the step, compiled", "resnet20-compiled", None, "resnet20"),
        against("ResNet-20 at 32: three epochs from JPEG files", "loop", None, "loop"),
    ]


def compiled(found: dict[str, list[dict[str, float]]]) -> str:
    """What the compiled rows were charged with."""
    took = [f"{summary(values_of(found, f'{model}-compiled', 'compiling'))['median']:.0f} s" for model in CASES]
    return f"Compiled steps bear {' and '.join(took)} of compiling, spread over {CHARGED:,} steps, with an empty cache."


def values_of(found: dict[str, list[dict[str, float]]], side: str, name: str) -> list[float]:
    return [values[name] for values in found[side]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help="run one side once (used by the program itself)")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or generate(Path(folder))
        equal = {model: checked(our_training(model), reference_net(model, CASES[model][2])) for model in CASES}
        equal["loop"] = checked(loop_training(data), create("resnet20", num_classes=10))
        print(json.dumps(equal), file=sys.stderr)
        command = [__file__, "--data", str(data), "--side"]
        found = interleave({side: [*command, side] for side in SIDES}, args.rounds)
    save(
        "P1-train-step",
        title="Training throughput at equal work",
        target="P1",
        command="python benchmarks/train_step.py",
        rows=rows(found, equal),
        notes=[
            "The step of the other side gets pictures that are float and normalised already; Resight's normalises.",
            f"ResNet-18 costs {steps.training_flops('resnet18', *CASES['resnet18'][::2]) / 1e9:.2f} GFLOP a picture "
            "(two for each multiply-accumulate; forward, and twice that backward, the first convolution once less).",
            compiled(found),
        ],
    )


if __name__ == "__main__":
    main()
