"""Gradients looked at while training: the numbers are right, and the training does not notice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from tests.training.tiny import Recorder, again, build, last, load, tiny_config, tiny_run, write_patterns

from resight.errors import Interrupted, RunError
from resight.studying.gradients import GradientWatch, looked_at, read_measured
from resight.studying.layers import convolutions
from resight.training.batches import split
from resight.training.fit import Training

CHANGES = {"model.name": "resnet8", "optimizer.average_epochs": 0.0, "optimizer.clip": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("watched") / "data")


def watched(path: Path, data: Path, recorder: Recorder | None = None, **more: object) -> tuple[Training, Path]:
    """A training in the new Run ``path`` that is looked at, and where."""
    config, samples = tiny_config(data, CHANGES | more), load(data)
    file = path.parent / f"{path.name}.json"
    watch = GradientWatch(recorder or Recorder(), file)  # type: ignore[arg-type]  # it has what is asked of one
    training = build(tiny_run(path, config, samples), config, samples, watch)  # type: ignore[arg-type]
    watch.attach(training)
    return training, file


def test_updates_are_looked_at_from_the_first_to_the_last() -> None:
    steps = looked_at(64_000)
    assert steps[0] == 1
    assert steps[-1] == 64_000
    assert len(steps) == 16
    assert looked_at(3) == [1, 2, 3]
    assert looked_at(1) == [1]


def test_looking_changes_no_bit_of_the_training(tmp_path: Path, data: Path) -> None:
    config, samples = tiny_config(data, CHANGES), load(data)
    build(tiny_run(tmp_path / "alone", config, samples), config, samples, Recorder()).fit()
    training, _ = watched(tmp_path / "watched", data)
    training.fit()
    alone, seen = last(tmp_path / "alone"), last(tmp_path / "watched")
    assert alone.state.history
    assert [e["train_loss"] for e in alone.state.history] == [e["train_loss"] for e in seen.state.history]
    for name, value in alone.weights.items():
        assert torch.equal(value, seen.weights[name]), name
    for name, value in alone.optimizer.items():
        assert torch.equal(value, seen.optimizer[name]), name


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_norms_are_those_of_the_whole_batch_before_clipping(tmp_path: Path, data: Path, micro_batch: int) -> None:
    training, file = watched(tmp_path / "run", data, micro_batch=micro_batch, total_steps=1)
    twin = build(training.run, training.config, load(data), Recorder())
    [batch] = twin.loader.batches(0, 1)
    twin.net.train()
    parts = [slice(0, 8)] if not micro_batch else [slice(0, 4), slice(4, 8)]

    for part in split(batch, micro_batch or 8):
        loss, _ = twin.objective(part)
        (loss / len(parts)).backward()
    expected = [float(layer.weight.grad.norm()) for layer in convolutions(twin.net).values()]
    weights = [float(layer.weight.detach().norm()) for layer in convolutions(twin.net).values()]
    training.fit()
    found = read_measured(file)
    assert found["layers"] == list(convolutions(twin.net))
    assert found["gradients"]["1"] == pytest.approx(expected, rel=1e-3)
    assert found["weights"]["1"] == pytest.approx(weights, rel=1e-4)
    assert sum(value**2 for value in expected) > 0.1**2, "clipping would have changed nothing"


def test_an_interrupted_training_finds_its_norms_again(tmp_path: Path, data: Path) -> None:
    whole, file = watched(tmp_path / "whole", data)
    whole.fit()
    stops = Recorder(on_step=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 5 else None)
    broken, half = watched(tmp_path / "broken", data, stops)
    with pytest.raises(Interrupted):
        broken.fit()
    assert 0 < len(read_measured(half)["gradients"]) < len(read_measured(file)["gradients"])
    training = again(tmp_path / "broken", data, CHANGES)
    watch = GradientWatch(Recorder(), half)  # type: ignore[arg-type]
    training.report = watch  # type: ignore[assignment]
    watch.attach(training)
    training.fit()
    assert half.read_bytes() == file.read_bytes()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1")
    with pytest.raises(RunError, match="cannot be read"):
        read_measured(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(RunError, match="no JSON object"):
        read_measured(tmp_path / "a.json")


def test_norms_that_are_not_finite_are_null(tmp_path: Path, data: Path) -> None:
    training, file = watched(tmp_path / "run", data, total_steps=1)
    assert isinstance(training.report, GradientWatch)
    training.report.found = {name: (float("inf"), 1.0) for name in convolutions(training.net)}
    training.report.step(1, 0.0, 0.0)
    assert set(read_measured(file)["gradients"]["1"]) == {None}
