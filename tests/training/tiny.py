"""A data set of patterns, a network of a moment, and trainings that need no sealing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import nn

from resight import samples as data_sets
from resight.images import Geometry
from resight.models import ResNet, create
from resight.recipes import TrainConfig, override
from resight.recipes.sections import AugmentConfig, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig
from resight.runs import CARD, CHECKPOINTS, ONNX, WEIGHTS, Architecture, Run, RunCard
from resight.samples import SampleSet
from resight.training import prepare, reading
from resight.training.bags import seen_by
from resight.training.checkpoint import Checkpoint, found, load_checkpoint, newest
from resight.training.fit import Training
from resight.training.objectives import objective_for
from resight.training.whitening import whiten

CLASSES = ("checks", "columns", "rows")
SIDE = 28


def pattern(kind: str, seed: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """uint8 (height, width, 3): stripes or checks of random colour and phase, with noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] + random.integers(0, 8, 2)[:, None, None]
    wave = {"rows": y // 4 % 2, "columns": x // 4 % 2, "checks": (x // 4 + y // 4) % 2}[kind]
    pixels = wave[..., None] * random.integers(80, 200, 3) + random.integers(0, 40, (height, width, 3))
    return pixels.astype(np.uint8)


def write_large(root: Path) -> Path:
    """Pictures of several sizes, 12 a class: a pattern of 28 px somewhere in noise."""
    for label, kind in enumerate(CLASSES):
        (root / kind).mkdir()
        for number in range(12):
            random = np.random.default_rng(1000 * label + number)
            height, width = random.integers(30, 90, 2)
            pixels = random.integers(100, 150, (height, width, 3), dtype=np.uint8)
            y, x = random.integers(0, height - 27), random.integers(0, width - 27)
            pixels[y : y + 28, x : x + 28] = pattern(kind, number)
            Image.fromarray(pixels).save(root / kind / f"{number:02d}.png")
    return root


def write_patterns(root: Path, each: int | Sequence[int] = 20, height: int = SIDE, width: int = SIDE) -> Path:
    """A folder of three classes with ``each`` PNG files, or as many of each as it says."""
    for label, kind in enumerate(CLASSES):
        (root / kind).mkdir(parents=True)
        for number in range(each if isinstance(each, int) else each[label]):
            pixels = pattern(kind, 100 * label + number, height, width)
            Image.fromarray(pixels).save(root / kind / f"{number:02d}.png")
    return root


def tiny_config(data: Path, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Six steps an epoch, two epochs, of eight pictures each: complete but for ``changes``, by dotted name."""
    config = TrainConfig(
        model=ModelConfig(name="resnet20", options={"stem": "tiny"}, zero_gamma=False),
        data=DataConfig(
            path=str(data),
            image_size=SIDE,
            train_size=SIDE,
            channels=3,
            mean=[0.3] * 3,
            std=[0.25] * 3,
            workers=0,
        ),
        augment=AugmentConfig(crop="shift", shift=2),
        optimizer=OptimizerConfig(lr=0.05, average_epochs=1.0),
        schedule=ScheduleConfig(name="onecycle", warmup=0.2),
        batch=8,
        total_steps=12,
        device="cpu",
        precision="fp32",
        threads=1,
    )
    return override(config, changes or {})


def tiny_run(path: Path, config: TrainConfig, samples: SampleSet) -> Run:
    card = RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options)),
        classes=samples.classes,
        channels=config.data.channels,
        geometry=Geometry("crop", SIDE, SIDE),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )
    return Run.create(path, card)


def tiny_teacher(
    path: Path, classes: Sequence[str] = CLASSES, net: ResNet | None = None, size: int = SIDE, **fields: Any
) -> Run:
    """A sealed Run of ``net`` (a network with random weights, if none): what a teacher needs, and no real graph."""
    if net is None:
        torch.manual_seed(31)
        net = create("resnet20", num_classes=len(classes), in_channels=fields.get("channels", 3), stem="tiny")
        for module in net.modules():  # statistics unlike those that a norm starts with
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
    card = {"channels": 3, "mean": (0.4, 0.5, 0.3), "std": (0.2, 0.3, 0.25)} | fields
    geometry = Geometry("crop", size, size)
    run = Run.create(
        path, RunCard(Architecture("resnet20", {"stem": "tiny"}), tuple(classes), geometry=geometry, **card)
    )
    run.file(CARD).with_name(WEIGHTS).write_bytes(save({k: v.contiguous() for k, v in net.state_dict().items()}))
    run.file(CARD).with_name(ONNX).write_bytes(b"not asked")
    run.seal()
    return run


class Recorder:
    """A reporter that remembers; ``on_step`` and ``on_epoch`` are called with the number of steps done."""

    writes = True

    def __init__(
        self,
        on_step: Callable[[int], None] = lambda _: None,
        on_epoch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.on_step, self.on_epoch = on_step, on_epoch
        self.said: list[str] = []
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.closed = False

    def start(self, done: int, total: int, batch: int) -> None: ...

    def step(self, done: int, loss: float, rate: float) -> None:
        self.losses.append(loss)
        self.rates.append(rate)
        self.on_step(done)

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        if best:
            self.best = entry
        self.on_epoch(entry["step"])

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        self.closed = True


def load(data: Path) -> SampleSet:
    return data_sets.load(data, seed=0, val_fraction=0.1, test_fraction=0.1)


def start(path: Path, data: Path, changes: dict[str, Any] | None = None, report: Recorder | None = None) -> Training:
    """A training in the new Run ``path``, ready to ``fit()``."""
    config, samples = tiny_config(data, changes), load(data)
    return build(tiny_run(path, config, samples), config, samples, report or Recorder())


def again(path: Path, data: Path, changes: dict[str, Any] | None = None) -> Training:
    """What a new process does with the Run ``path``: everything built anew, restored from the newest checkpoint."""
    config, samples, report = tiny_config(data, changes), load(data), Recorder()
    run = Run.open(path, sealed=False)
    checkpoint = newest(run, report.say)
    training = build(run, config, samples, report)
    if checkpoint is not None:
        training.restore(checkpoint)
    return training


def build(run: Run, config: TrainConfig, samples: SampleSet, report: Recorder) -> Training:
    torch.set_num_threads(1)
    net = prepare.build_net(config, len(samples.classes), None, report.say)
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    if config.model.whitening:
        whiten(net, train, config)
    answered = reading.eval_pictures(samples, "train", config) if config.data.fix_share else None
    objective = objective_for(net, config, samples)
    return Training(run, config, objective, *seen_by(objective, train, val, report.say), report, answered=answered)


def last(path: Path) -> Checkpoint:
    return load_checkpoint(found(path / CHECKPOINTS)[0])


def digest(path: Path) -> str:
    """SHA-256 over weights, optimizer, average and history (without times) of the newest checkpoint."""
    checkpoint = last(path)
    total = hashlib.sha256()
    for tensors in (checkpoint.weights, checkpoint.optimizer, checkpoint.average):
        for name in sorted(tensors):
            total.update(name.encode())
            total.update(tensors[name].contiguous().numpy().tobytes())
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in checkpoint.state.history]
    total.update(json.dumps([checkpoint.state.step, history]).encode())
    return total.hexdigest()
