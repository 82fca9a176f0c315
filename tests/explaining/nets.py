"""Small members of the family with weights that are not fresh, as sealed Runs. Needs PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resight.exporting.seal import write_model
from resight.images import Geometry
from resight.models import ResNet, create
from resight.runs import CONFIG, SPLIT, Architecture, Run, RunCard
from resight.samples import SampleSet, split_csv

SIZE = 32
CLASSES = ("bag", "coat", "dress", "hat")
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
FAMILY: dict[str, tuple[str, dict[str, object]]] = {
    "cifar": ("resnet20", {}),
    "bottleneck": ("resnet50", {"depths": (1, 1, 1, 1), "widths": (8, 16, 32, 64), "stem": "tiny"}),
    "preactivation": ("preact_resnet18", {"depths": (1, 1, 1), "widths": (8, 16, 32), "stem": "cifar"}),
    "wide": ("wide_resnet50_2", {"depths": (1, 1, 1), "widths": (8, 16, 32), "stem": "tiny"}),
    "se": ("seresnet18", {"depths": (1, 1, 1), "widths": (8, 16, 32), "stem": "tiny"}),
    "deep": ("resnet18d", {"depths": (1, 1), "widths": (8, 16)}),
}


def network(kind: str, channels: int = 3) -> ResNet:
    """Random weights, and norm statistics that are not those of a fresh network."""
    name, options = FAMILY[kind]
    torch.manual_seed(3)
    net = create(name, num_classes=len(CLASSES), in_channels=channels, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    return net.eval()


def make_run(
    path: Path,
    kind: str = "cifar",
    geometry: Geometry | None = None,
    channels: int = 3,
    classes: Sequence[str] = CLASSES,
    data: SampleSet | None = None,
) -> Run:
    """A sealed Run of ``network(kind)``; with ``data`` also a config.json and split.csv that point there."""
    name, options = FAMILY[kind]
    card = RunCard(
        architecture=Architecture(name, options),
        classes=tuple(classes),
        channels=channels,
        geometry=geometry or Geometry("squash", SIZE),
        mean=MEAN[:channels],
        std=STD[:channels],
    )
    run = Run.create(path, card)
    write_model(run, network(kind, channels), 1.0)
    if data is not None:
        (path / CONFIG).write_text(json.dumps({"data": {"path": str(data.root)}}), "utf-8")
        split_csv.write(path / SPLIT, data)
    run.seal()
    return Run.open(path)


def photo(seed: int = 0, height: int = SIZE, width: int = SIZE, channels: int = 3) -> NDArray[np.uint8]:
    """uint8 (height, width, channels): coarse noise, which has edges and areas."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 6 // width
    return coarse[rows][:, columns]
