"""The other side: a training loop as torchvision's classification reference writes it, on any folder data set.

Eager, NCHW, ImageFolder and a DataLoader with two workers, PIL transforms (shift-crop and flip, He et al. 2015,
§4.2), SGD with momentum 0.9, weight decay on everything, a cosine stepped once an epoch. The network is
Resight's own ResNet, so that both sides differ in the loop only.

    python benchmarks/reference_loop.py DATA --epochs 15 --out reference.jsonl

writes one line an epoch: training loss, test accuracy (final value counts), seconds of training and of testing.
DATA holds train/CLASS and test/CLASS.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from resight.models import create


def loaders(root: Path, size: int, batch: int, workers: int) -> tuple[DataLoader, DataLoader]:
    normalize = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    augment = transforms.Compose(
        [
            transforms.RandomCrop(size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            normalize,
        ]
    )
    plain = transforms.Compose([transforms.ToTensor(), normalize])
    train = datasets.ImageFolder(root / "train", augment)
    test = datasets.ImageFolder(root / "test", plain)
    return (
        DataLoader(train, batch, shuffle=True, num_workers=workers, drop_last=True),
        DataLoader(test, batch, num_workers=workers),
    )


def train_one_epoch(net, loader, optimizer, criterion) -> float:
    net.train()
    total = 0.0
    for images, labels in loader:
        loss = criterion(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.inference_mode()
def accuracy(net, loader) -> float:
    net.eval()
    correct = seen = 0
    for images, labels in loader:
        correct += (net(images).argmax(1) == labels).sum().item()
        seen += len(labels)
    return correct / seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reference.jsonl"))
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, test = loaders(args.data, args.size, args.batch, args.workers)
    net = create(args.model, num_classes=len(train.dataset.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    with args.out.open("w") as out:
        for epoch in range(args.epochs):
            start = time.perf_counter()
            loss = train_one_epoch(net, train, optimizer, criterion)
            schedule.step()
            trained = time.perf_counter()
            result = {
                "epoch": epoch + 1,
                "loss": loss,
                "test_accuracy": accuracy(net, test),
                "train_seconds": trained - start,
                "test_seconds": time.perf_counter() - trained,
            }
            print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
