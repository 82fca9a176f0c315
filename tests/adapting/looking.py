"""What the tests of ``--by patches`` share: settings, a configuration, and invented facts about tiles."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from resight.adapting.learning import policy_config
from resight.adapting.patches.facts import Facts
from resight.adapting.patches.learning import look_config
from resight.adapting.patches.policy import LookSettings, TileCosts
from resight.recipes import TrainConfig
from resight.runs import CONFIG, Run

SETTINGS = LookSettings(tile=8, side=12, samples=4)
COSTS = TileCosts(0.0001, 0.01)


def config_of(run: Run, **more: Any) -> TrainConfig:
    config = TrainConfig.from_json(run.read(CONFIG), "config.json")
    given = {"epochs": 2, "batch": 4, "seed": 3, "joint": 1.0} | more
    return look_config(policy_config(run, config, **given))


def invented(pictures: int, seed: int = 0, classes: int = 3, channels: int = 3) -> Facts:
    """Of each picture one tile, a bright one, knows the class; all others, dark, are a little wrong and attended to."""
    random = np.random.default_rng(seed)
    windows, attention, logits, labels = [], [], [], random.integers(0, classes, pictures)
    for label in labels:
        count = int(random.integers(6, 14))
        seen = random.integers(0, 60, (count, 12, 12, channels), dtype=np.uint8)
        says = np.zeros((count, classes), np.float32)
        says[:, (label + 1) % classes] = 1.0
        place = random.integers(count)
        seen[place] += 150
        says[place] = 40.0 * np.eye(classes)[label]
        windows.append(seen)
        attention.append(np.zeros(count, np.float32))
        logits.append(says)
    return Facts(tuple(windows), tuple(attention), tuple(logits), labels)


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.path, folder / "run", ignore=shutil.ignore_patterns("artifacts"))
    return Run.open(folder / "run")
