"""Training throughput from files: Resight's loop against a loop as torchvision's reference writes it.

    python benchmarks/train_step.py [--data DATA] [--rounds 5]

Both sides train a ResNet-20 at 32 px for three epochs over the same pictures, decoding, augmentation (shift-crop
and flip) and the optimizer included, start-up not; sides alternate in processes of their own. Before that, one
check: from equal weights and an equal batch both sides compute the same loss and the same update.

DATA holds train/CLASS and test/CLASS; without it, 2,560 pictures are generated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from common import interleave, save, summary
from reference_loop import loaders, train_one_epoch
from resight import samples as data_sets
from resight.models import create
from resight.training import machine, prepare
from resight.training.fit import Training
from resight.training.objective import Supervised
from resight.training.progress import Silent

EPOCHS, BATCH, SIZE = 3, 128, 32


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


def ours(data: Path) -> Training:
    samples = data_sets.load(data, val_fraction=0.01)
    sizes = np.array([[SIZE, SIZE]])
    wishes = {"model.name": "resnet20", "batch": BATCH, "epochs": EPOCHS, "label_smoothing": 0.0}
    config, _ = prepare.configure(samples, sizes, wishes, "he2015-cifar")
    config.data.mean, config.data.std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    config.threads = machine.set_threads(0)
    machine.keep_memory()
    prepare.resolve_steps(config, len(samples.part("train")))
    net = prepare.build_net(config, len(samples.classes), None, print)
    pictures = prepare.train_pictures(samples, config)
    return Training(None, config, Supervised(net, config), pictures, pictures, Silent())


def run_ours(data: Path) -> float:
    training = ours(data)
    start = time.perf_counter()
    for batch in training.loader.batches(0, training.config.total_steps):
        training.update(batch)
    return training.config.total_steps * BATCH / (time.perf_counter() - start)


def run_reference(data: Path) -> float:
    train, _ = loaders(data, SIZE, BATCH, workers=2)
    net = create("resnet20", num_classes=len(train.dataset.classes))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        train_one_epoch(net, train, optimizer, nn.CrossEntropyLoss())
    return EPOCHS * len(train) * BATCH / (time.perf_counter() - start)


def largest_difference(data: Path) -> float:
    """Both sides' weights after one update from equal weights on an equal batch: the largest difference."""
    training = ours(data)
    net = create("resnet20", num_classes=training.net.num_classes)
    net.load_state_dict(training.net.state_dict())
    batch = training.loader.make(0)
    pixels = training.objective.normalize(_augmented(training, batch))
    training.update(batch)
    optimizer = torch.optim.SGD(net.parameters(), training.config.optimizer.lr, momentum=0.9, weight_decay=1e-4)
    nn.functional.cross_entropy(net.train()(pixels.contiguous()), batch.labels).backward()
    optimizer.step()
    pairs = zip(net.parameters(), training.net.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def _augmented(training: Training, batch: object) -> torch.Tensor:
    from resight.training.augment import apply

    return apply(training.config.augment, batch.pixels, batch.parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=("ours", "reference"), help="run one side once (used by the program itself)")
    args = parser.parse_args()
    if args.side:
        rate = run_ours(args.data) if args.side == "ours" else run_reference(args.data)
        print(json.dumps({"pictures_per_second": rate}))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or generate(Path(folder))
        difference = largest_difference(data)
        if difference > 1e-4:
            sys.exit(f"the sides do not compute the same update: weights differ by {difference}")
        command = [__file__, "--data", str(data), "--side"]
        sides = {side: [*command, side] for side in ("ours", "reference")}
        rounds = interleave(sides, args.rounds)
    rates = {side: [r["pictures_per_second"] for r in found] for side, found in rounds.items()}
    ratios = [a / b for a, b in zip(rates["ours"], rates["reference"], strict=True)]
    result = {f"{side}_pictures_per_second": summary(values) for side, values in rates.items()}
    save("train_step", result | {"ratio": summary(ratios), "largest_weight_difference": difference})
    print(f"ratio: {statistics.median(ratios):.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
