"""The other side of P8: 25 epochs of full fine-tuning as torchvision's classification reference writes a loop.

Eager, NCHW, ImageFolder and a DataLoader with two workers, PIL transforms (random resized crop, flip), SGD with
momentum 0.9, weight decay 1e-4 on everything, a cosine stepped once an epoch, batch 32; the last epoch counts. The
network is Resight's own ResNet with the same weights and a new last layer, so that the sides differ in the loop only.

    python benchmarks/transfer_reference.py DATA --weights FILE --size 64 --lr 0.01 [--part val]

DATA holds train/CLASS, val/CLASS and test/CLASS. Prints one JSON object: seconds from the first file that is opened to
the last update, and for each picture of the part whether it was answered rightly.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from common import processor_seconds
from reference_loop import train_one_epoch
from resight.models import create, load_weights

BATCH, WORKERS, EPOCHS = 32, 2, 25
SMALLEST = 0.35  # area of a random crop: that of Resight's recipes; torchvision's 0.08 is meant for ImageNet
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def augmented(size: int) -> transforms.Compose:
    crop = transforms.RandomResizedCrop(size, (SMALLEST, 1.0))
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), NORMALIZE])


def plain(size: int) -> transforms.Compose:
    shorter = transforms.Resize(round(size / 0.875))
    return transforms.Compose([shorter, transforms.CenterCrop(size), transforms.ToTensor(), NORMALIZE])


def train(net: nn.Module, folder: Path, size: int, rate: float, epochs: int) -> None:
    pictures = datasets.ImageFolder(folder, augmented(size))
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        train_one_epoch(net, loader, optimizer, nn.CrossEntropyLoss())
        schedule.step()


@torch.inference_mode()
def answered(net: nn.Module, folder: Path, size: int) -> dict[str, bool]:
    """By CLASS/FILE, whether the answer is right."""
    net.eval()
    pictures = datasets.ImageFolder(folder, plain(size))
    loader = DataLoader(pictures, 128, num_workers=WORKERS)
    right = [bool(one) for images, labels in loader for one in net(images).argmax(1) == labels]
    names = [Path(path).relative_to(folder).as_posix() for path, _ in pictures.samples]
    return dict(zip(names, right, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="test", choices=["val", "test"])
    args = parser.parse_args()

    torch.manual_seed(args.seed)  # the workers' generators are seeded from it
    start, before = time.perf_counter(), processor_seconds()
    net = create(args.model, num_classes=len(list((args.data / "train").iterdir())))
    load_weights(net, args.weights)
    train(net, args.data / "train", args.size, args.lr, args.epochs)
    spent = {"seconds": time.perf_counter() - start, "processor": processor_seconds() - before}
    print(json.dumps(spent | {"right": answered(net, args.data / args.part, args.size)}))


if __name__ == "__main__":
    main()
