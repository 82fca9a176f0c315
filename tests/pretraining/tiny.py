"""Pretrainings of a moment: a net of one stage, three classes of patterns whose labels nobody looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.training.tiny import SIDE, Recorder, load, tiny_config

from resight.images import Geometry
from resight.pretraining.build import pretraining_for
from resight.pretraining.signals import Signals
from resight.recipes import TrainConfig
from resight.runs import Architecture, Run, RunCard
from resight.training import prepare, reading
from resight.training.checkpoint import newest
from resight.training.fit import Training

SMALL: dict[str, dict[str, Any]] = {
    "simclr": {},
    "byol": {"pretrain.momentum": 0.9},
    "fastsiam": {"pretrain.views": 3},
    "dino": {"pretrain.local_views": 2, "pretrain.local_size": 16, "pretrain.temperature": 0.1},
}


def config_of(data: Path, method: str, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Twelve steps of eight pictures."""
    own = {
        "pretrain.method": method,
        "pretrain.hidden": 16,
        "pretrain.width": 8,
        "optimizer.average_epochs": 0,
        "augment.crop": "resized",
        "augment.color": 0.4,
        "augment.hue": 0.1,
        "augment.color_share": 0.8,
        "augment.gray": 0.2,
        "augment.blur": 0.5,
    }
    return tiny_config(data, own | SMALL[method] | (changes or {}))


def build(run: Run, config: TrainConfig, report: Recorder) -> Training:
    torch.set_num_threads(1)
    samples = load(Path(config.data.path))
    bare = samples.unlabelled()
    net = prepare.build_net(config, 0, None, report.say)
    signals = Signals(
        config,
        reading.eval_pictures(samples, "train", config),
        samples.targets(samples.part("val")),
        len(samples.classes),
    )
    train, val = reading.train_pictures(bare, config), reading.eval_pictures(bare, "val", config)
    return Training(run, config, pretraining_for(net, config), train, val, report, judge=signals)


def start(path: Path, config: TrainConfig, report: Recorder | None = None) -> Training:
    card = RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options)),
        classes=(),
        channels=3,
        geometry=Geometry("crop", SIDE, SIDE),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        task="features",
        pretraining={"method": config.pretrain.method, "crops": 1, "batch": config.batch},
    )
    return build(Run.create(path, card), config, report or Recorder())


def again(path: Path, config: TrainConfig) -> Training:
    """What a new process does: everything built anew, restored from the newest checkpoint."""
    report = Recorder()
    run = Run.open(path, sealed=False)
    training = build(run, config, report)
    checkpoint = newest(run, report.say)
    assert checkpoint is not None
    training.restore(checkpoint)
    return training
