"""The methods through the one loop: views, exact resume, momentum, what is told of a collapse, several processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import Recorder, digest, last, load, write_patterns

from resight.errors import Interrupted
from resight.pretraining.byol import BYOL
from resight.pretraining.dino import DINO
from resight.pretraining.views import momentum_at
from resight.pretraining.watch import Look, Watch, look
from resight.recipes import METHODS
from resight.training import reading
from resight.training.loader import TrainLoader, view_of, views_of

from .tiny import again, config_of, start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("patterns"), 20)


def loader_of(data: Path, method: str, **where: int) -> TrainLoader:
    config = config_of(data, method)
    return TrainLoader(reading.train_pictures(load(data).unlabelled(), config), config, **where)


def test_a_batch_has_further_views_of_the_same_pictures_each_changed_otherwise(data: Path) -> None:
    batch = loader_of(data, "fastsiam").make(2)
    views = [batch.pixels, *(view.pixels for view in batch.others)]
    assert [view.shape for view in views] == [(8, 3, 28, 28)] * 3
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])


def test_small_views_come_last(data: Path) -> None:
    batch = loader_of(data, "dino").make(0)
    assert [view.pixels.shape[-1] for view in batch.others] == [28, 16, 16]
    (whole, _), *_, (small, size) = views_of(config_of(data, "dino"))
    assert (small.scale_min, small.scale_max, size) == (0.1, 0.4, 16)
    assert small.color == whole.color


def test_a_training_with_labels_has_one_view(data: Path) -> None:
    assert loader_of(data, "simclr").config.pretrain.method == "simclr"
    config = config_of(data, "simclr", {"pretrain.method": "none"})
    loader = TrainLoader(reading.train_pictures(load(data), config), config)
    assert loader.make(0).others == ()


def test_views_are_the_same_for_any_batch_rank_and_order(data: Path) -> None:
    whole = loader_of(data, "fastsiam").make(3)
    parts = [loader_of(data, "fastsiam", rank=rank, world=2).make(3) for rank in (0, 1)]
    for number in (0, 1):
        for rank, part in enumerate(parts):
            assert torch.equal(part.others[number].pixels, whole.others[number].pixels[rank::2])
    alone = view_of(loader_of(data, "fastsiam").pictures, config_of(data, "fastsiam"), 2, 0, whole.indices[4:5])
    assert torch.equal(alone.pixels[0], whole.others[1].pixels[4])


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_training_ends_with_the_same_bits(method: str, data: Path, tmp_path: Path) -> None:
    config = config_of(data, method)
    start(tmp_path / "straight", config).fit()
    report = Recorder(on_step=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None)
    with pytest.raises(Interrupted):
        start(tmp_path / "stopped", config, report).fit()
    again(tmp_path / "stopped", config).fit()
    assert digest(tmp_path / "stopped") == digest(tmp_path / "straight")


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls_and_the_signals_are_told(method: str, data: Path, tmp_path: Path) -> None:
    config = config_of(data, method, {"total_steps": 24, "optimizer.lr": 0.02})
    training = start(tmp_path / "run", config)
    training.fit()
    first, *_, end = training.state.history
    assert end["train_loss"] < first["train_loss"]
    assert {"spread", "rank", "alignment", "uniformity", "knn", "linear"} <= end.keys()
    assert 0 < end["spread"] <= 1
    assert training.state.best_step == 24  # the last: nothing is chosen by labels


def test_labels_change_nothing_but_what_is_told_of_them(data: Path, tmp_path: Path) -> None:
    config = config_of(data, "simclr", {"total_steps": 6})
    training = start(tmp_path / "with", config)
    assert set(training.loader.pictures.labels.tolist()) == {0}
    training.fit()
    without = start(tmp_path / "without", config)
    without.judge.bank = None  # type: ignore[attr-defined]
    without.fit()
    ours, theirs = last(tmp_path / "with"), last(tmp_path / "without")
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    assert "knn" not in theirs.state.history[-1]


def test_the_target_follows_by_exactly_its_momentum_in_each_update(data: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", config_of(data, "byol", {"total_steps": 6}))
    objective = training.objective
    assert isinstance(objective, BYOL)
    assert all(
        torch.equal(a, b) for a, b in zip(objective.target[0].parameters(), objective.net.parameters(), strict=True)
    )
    expected = [p.detach().clone() for p in objective.target.parameters()]
    for step in range(3):
        training.update(training.loader.make(step))
        momentum = momentum_at(0.9, step + 1, 6)
        sources = [*objective.net.parameters(), *objective.projector.parameters()]
        expected = [old * momentum + new.detach() * (1 - momentum) for old, new in zip(expected, sources, strict=True)]
    for found, wanted in zip(objective.target.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not any(p.requires_grad for p in objective.target.parameters())


def test_what_dino_keeps_is_the_teacher_and_its_center_is_the_teachers_mean(data: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", config_of(data, "dino", {"total_steps": 6}))
    objective = training.objective
    assert isinstance(objective, DINO)
    assert objective.kept is objective.teacher
    batch = training.loader.make(0)
    objective.train()
    with torch.no_grad():
        images = objective.images(batch)
        statistics = {k: v.clone() for k, v in objective.state_dict().items()}
        scores = torch.cat([objective.teacher_head(objective.teacher(view))[0] for view in images[:2]])
        objective.load_state_dict(statistics)
        objective(batch)
    torch.testing.assert_close(objective.center, scores.mean(0) * 0.1)


def test_a_collapse_is_told_once_and_so_is_a_recovery() -> None:
    watch = Watch("Do this.")
    flat, round_ = Look(100, 0.01, 1.1), Look(300, 0.9, 20.0)
    (said,) = watch.after(flat)
    assert "step 100" in said
    assert said.endswith("Do this.")
    assert watch.after(Look(200, 0.01, 1.1)) == []
    (recovered,) = watch.after(round_)
    assert "no longer" in recovered


def test_answers_along_a_line_have_collapsed_too() -> None:
    line = np.outer(np.linspace(-1, 1, 40), np.ones(8)) + 1e-3 * np.random.default_rng(0).normal(size=(40, 8))
    found = look(0, line)
    assert found.spread > 0.9
    assert found.collapsed
    assert Look(80, 0.54, 4.7).collapsed
    assert not Look(80, 0.64, 4.7).collapsed
    assert not Look(80, 0.54, 5.7).collapsed
    assert not look(0, np.random.default_rng(0).normal(size=(40, 8))).collapsed


def test_without_the_stopped_gradient_answers_collapse_and_it_is_told(data: Path, tmp_path: Path) -> None:
    looks = {}
    for stopped in (False, True):
        changes: dict[str, Any] = {"pretrain.watch_steps": 5, "pretrain.views": 2, "pretrain.stop_gradient": stopped}
        changes |= {"total_steps": 200, "optimizer.lr": 0.1, "schedule.warmup": 0, "batch": 16}
        training = start(tmp_path / str(stopped), config_of(data, "fastsiam", changes))
        said = []
        for step in range(26):
            training.update(training.loader.make(step))
            said += training.objective.remarks()
        looks[stopped] = [line for line in said if "have collapsed" in line]
    assert looks[False]
    assert not looks[True]
