"""Every field of ``pretrain`` has an effect: changing it changes what is learned, or what is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import Recorder, write_patterns
from torch import Tensor

from resight.recipes import METHODS
from resight.recipes.sections import PretrainConfig
from resight.training.fit import Training

from .tiny import config_of, start

LOCAL = {"pretrain.local_views": 1, "pretrain.local_size": 16}
SEEN: dict[str, tuple[str, dict[str, Any], Any]] = {
    "views": ("fastsiam", {}, 4),
    "local_views": ("dino", LOCAL, 2),
    "local_size": ("dino", LOCAL, 20),
    "local_min": ("dino", LOCAL, 0.2),
    "local_max": ("dino", LOCAL, 0.8),
    "hidden": ("simclr", {}, 24),
    "width": ("simclr", {}, 12),
    "temperature": ("simclr", {}, 0.2),
    "teacher_temperature": ("dino", LOCAL, 0.1),
    "momentum": ("byol", {}, 0.5),
    "center": ("dino", LOCAL, 0.1),
    "stop_gradient": ("fastsiam", {}, False),
}
ELSEWHERE = {"method", "unlabelled", "watch_steps"}  # below, and in tests/commands/test_pretrain.py


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("patterns"), 12)


def learned(training: Training) -> list[float]:
    """Losses and a sum of weights of three updates."""
    found = []
    for step in range(3):
        training.update(training.loader.make(step))
        found.append(training.state.loss_sum)
    weight: Tensor = training.net.conv1.weight  # type: ignore[assignment]
    return [*found, float(weight.detach().double().sum())]


@pytest.mark.parametrize("name", SEEN)
def test_a_field_changes_what_is_learned(name: str, data: Path, tmp_path: Path) -> None:
    method, needed, value = SEEN[name]
    plain = config_of(data, method, needed)
    assert getattr(plain.pretrain, name) != value
    changed = config_of(data, method, {**needed, f"pretrain.{name}": value})
    assert learned(start(tmp_path / "plain", plain)) != learned(start(tmp_path / "changed", changed))


def test_every_field_is_covered() -> None:
    assert {*SEEN} | ELSEWHERE == {*PretrainConfig.model_fields}


def test_every_method_learns_otherwise(data: Path, tmp_path: Path) -> None:
    found = {method: learned(start(tmp_path / method, config_of(data, method))) for method in METHODS}
    assert len({tuple(values) for values in found.values()}) == len(METHODS)


def test_how_often_it_is_watched(data: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", config_of(data, "simclr", {"pretrain.watch_steps": 2}), Recorder())
    for step in range(5):
        training.update(training.loader.make(step))
    assert [look.step for look in training.objective.watch.seen] == [0, 2, 4]  # type: ignore[union-attr]
