"""Residual networks of a moment as sealed Runs, and how policies over their blocks are trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tests.training.tiny import CLASSES, SIDE, pattern, tiny_config

from resight.adapting.learning import policy_config
from resight.adapting.rewards import Costs
from resight.exporting.onnx import Answering, export_onnx
from resight.images import Geometry
from resight.models import ResNet, create
from resight.recipes import TrainConfig
from resight.runs import ONNX, WEIGHTS, Architecture, Run, RunCard
from resight.samples import SampleSet

MEAN, STD = (0.3, 0.3, 0.3), (0.25, 0.25, 0.25)
EVEN = Costs(1.0, (1.0,) * 7)
"""Of a ResNet-20."""


def network(name: str = "resnet20", idle: tuple[str, ...] = ("layer2.2", "layer3.2")) -> ResNet:
    """Of random weights: it answers differently without a block, but not without an ``idle`` one: it adds nothing."""
    torch.manual_seed(0)
    net = create(name, num_classes=3, in_channels=3, stem="tiny").eval()
    for block in idle:
        torch.nn.init.zeros_(net.get_submodule(block).last)  # type: ignore[arg-type]
    return net


def seal(path: Path, net: ResNet, name: str = "resnet20") -> Run:
    card = RunCard(Architecture(name, {"stem": "tiny"}), CLASSES, 3, Geometry("crop", SIDE, SIDE), MEAN, STD)
    run = Run.create(path, card)
    (path / WEIGHTS).write_bytes(save({k: v.contiguous() for k, v in net.state_dict().items()}))
    export_onnx(Answering(net, MEAN, STD, 1.0), SIDE, path / ONNX)
    run.seal()
    return run


def config_of(run: Run, data: SampleSet, epochs: float = 2.0, joint: float = 0.6) -> TrainConfig:
    return policy_config(run, tiny_config(data.root), epochs=epochs, batch=8, seed=3, joint=joint)


def pixels(count: int) -> NDArray[np.uint8]:
    return np.stack([pattern(CLASSES[k % 3], 900 + k) for k in range(count)])
