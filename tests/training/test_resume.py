"""A training that was stopped, however and whenever, ends with the very bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resight.errors import Interrupted
from resight.runs import HISTORY
from resight.runs.storage import write_atomic
from resight.training import checkpoint as checkpoint_module
from resight.training import fit as fit_module
from resight.training.fit import Training

from .tiny import again, digest, last, start

Prepare = Callable[[Training, pytest.MonkeyPatch], None]


class Killed(BaseException):
    """Stands for a process that is gone: nothing of it may be used again but its files."""


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def at_step(step: int, *numbers: int) -> Prepare:
    def prepare(training: Training, _: pytest.MonkeyPatch) -> None:
        training.report.on_step = lambda done: send(*numbers) if done == step else None

    return prepare


def while_validating(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    read = training.val._read

    def reads(sample: Any) -> Any:
        send(signal.SIGTERM)
        return read(sample)

    monkeypatch.setattr(training.val, "_read", reads)


def while_saving(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.replace

    def renames(source: Any, target: Any) -> None:
        if "step-00000006" in str(target):
            send(signal.SIGTERM)
        rename(source, target)

    monkeypatch.setattr(checkpoint_module.os, "replace", renames)


def after_the_last_step(training: Training, _: pytest.MonkeyPatch) -> None:
    training.report.on_epoch = lambda done: send(signal.SIGTERM) if done == 12 else None


@pytest.fixture(scope="module")
def straight(patterns: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("straight") / "run"
    start(path, patterns).fit()
    return digest(path)


MOMENTS: dict[str, tuple[Prepare, int, int]] = {  # how, the step it is saved at, the exit code
    "in its first step": (at_step(1, signal.SIGTERM), 1, 143),
    "in the middle of an epoch": (at_step(4, signal.SIGTERM), 4, 143),
    "with Ctrl-C": (at_step(4, signal.SIGINT), 4, 130),
    "twice": (at_step(9, signal.SIGTERM, signal.SIGINT), 9, 143),
    "in an epoch's last step": (at_step(6, signal.SIGTERM), 6, 143),
    "in validation": (while_validating, 6, 143),
    "during a save": (while_saving, 6, 143),
    "after everything": (after_the_last_step, 12, 143),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_saves_and_resuming_gives_the_same_bits(
    moment: str, patterns: Path, straight: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, step, code = MOMENTS[moment]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    training = start(tmp_path / "run", patterns)
    with monkeypatch.context() as patch:
        prepare(training, patch)
        with pytest.raises(Interrupted) as stopped:
            training.fit()
    assert stopped.value.exit_code == code
    assert f"resight resume {tmp_path / 'run'}" in str(stopped.value)
    assert any("saving, then stopping" in line for line in training.report.said)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert training.report.closed

    following = again(tmp_path / "run", patterns)
    assert following.state.step == step
    following.fit()
    assert digest(tmp_path / "run") == straight


def test_the_line_of_an_epoch_follows_from_its_checkpoint(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between an epoch's checkpoint and its line, the last time after the last epoch."""

    def written() -> list[int]:
        return [json.loads(line)["step"] for line in (tmp_path / "run" / HISTORY).read_text("utf-8").splitlines()]

    training = start(tmp_path / "run", patterns)
    for epochs, step in enumerate((6, 12), start=1):

        def dies(path: Path, lines: bytes, last: int = epochs) -> None:
            if lines.count(b"\n") == last:
                raise Killed
            write_atomic(path, lines)

        with monkeypatch.context() as patch:
            patch.setattr(fit_module, "write_atomic", dies)
            with pytest.raises(Killed):
                training.fit()
        training = again(tmp_path / "run", patterns)
        assert training.state.step == step
    assert written() == [6]
    training.fit()
    assert written() == [6, 12]


def test_a_validation_that_was_stopped_is_not_counted(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = start(tmp_path / "run", patterns)
    while_validating(training, monkeypatch)
    with pytest.raises(Interrupted):
        training.fit()
    assert last(tmp_path / "run").state.history == []


def test_a_signal_in_the_last_validation_after_a_resume_is_not_lost(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = start(tmp_path / "run", patterns, {"total_steps": 6})
    with monkeypatch.context() as patch:
        while_validating(training, patch)
        with pytest.raises(Interrupted):
            training.fit()
    following = again(tmp_path / "run", patterns, {"total_steps": 6})
    following.report.on_epoch = lambda _: send(signal.SIGTERM)
    with pytest.raises(Interrupted):
        following.fit()
    assert len(last(tmp_path / "run").state.history) == 1


def killed_at(path: Path, data: Path, steps: list[int], changes: dict[str, Any]) -> str:
    """Trains, loses everything but the files after each of ``steps``, and goes on; the digest of the end."""
    training = start(path, data, changes)
    for step in steps:

        def die(done: int, step: int = step) -> None:
            if done == step:
                raise Killed

        training.report.on_step = die
        with pytest.raises(Killed):
            training.fit()
        del training
        training = again(path, data, changes)
        assert training.state.step <= step
    training.fit()
    return digest(path)


VARIANTS: dict[str, dict[str, Any]] = {
    "saved often": {"save_steps": 2},
    "no average": {"optimizer.average_epochs": 0},
    "one worker": {"data.workers": 1, "save_steps": 3},
    "two workers": {"data.workers": 2, "save_steps": 3},
    "mixup": {"augment.mixup": 0.4, "augment.cutmix": 1.0, "save_steps": 1},
    "everything drawn": {
        "augment.crop": "resized",
        "augment.policy": "trivial",
        "augment.color": 0.3,
        "augment.erasing": 0.5,
        "save_steps": 5,
    },
    "stochastic depth": {"model.options.stochastic_depth": 0.4, "save_steps": 4},
    "adamw": {"optimizer.name": "adamw", "optimizer.lr": 0.003, "save_steps": 4},
    "lamb": {"optimizer.name": "lamb", "optimizer.lr": 0.01, "loss": "bce", "save_steps": 4},
    "muon": {"optimizer.name": "muon", "model.whitening": True, "augment.flip": "alternate", "save_steps": 4},
    "growing pictures": {"data.start_scale": 0.75, "data.grow_until": 0.8, "save_steps": 4},
    "growing crops": {"augment.crop": "resized", "data.start_scale": 0.65, "data.train_size": 32, "save_steps": 4},
    "balanced sampling": {"balance.sampling": "balanced", "augment.crop": "resized", "save_steps": 4},
    "weights": {"balance.weights": "effective", "loss": "focal", "augment.mixup": 0.4, "select": "balanced"},
    "logit adjustment": {"balance.logit_adjustment": 1.0, "select": "balanced", "save_steps": 5},
    "accumulation": {"micro_batch": 3, "optimizer.clip": 0.5, "save_steps": 5},
    "checkpointing": {"model.checkpointing": True, "save_steps": 4},
    "a short last epoch": {"total_steps": 10, "save_steps": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_training_goes_on_to_the_same_bits(variant: str, patterns: Path, tmp_path: Path) -> None:
    changes = VARIANTS[variant]
    start(tmp_path / "straight", patterns, changes).fit()
    killed = killed_at(tmp_path / "killed", patterns, [3, 9], changes)
    assert killed == digest(tmp_path / "straight")


def test_workers_change_nothing(patterns: Path, straight: str, tmp_path: Path) -> None:
    for workers in (1, 2):
        start(tmp_path / f"{workers}", patterns, {"data.workers": workers}).fit()
        assert digest(tmp_path / f"{workers}") == straight


def test_saving_often_changes_nothing(patterns: Path, straight: str, tmp_path: Path) -> None:
    start(tmp_path / "run", patterns, {"save_steps": 1}).fit()
    assert digest(tmp_path / "run") == straight


def test_twenty_steps_have_the_same_losses_twice(patterns: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("first", "second"):
        training = start(tmp_path / name, patterns, {"total_steps": 20})
        training.fit()
        losses.append(training.report.losses)
    assert len(losses[0]) == 20
    assert losses[0] == losses[1]


def test_another_seed_gives_another_training(patterns: Path, straight: str, tmp_path: Path) -> None:
    start(tmp_path / "run", patterns, {"seed": 1}).fit()
    assert digest(tmp_path / "run") != straight


def test_what_limits_a_training_is_said_at_its_end(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns)
    training.fit()
    assert [line for line in training.report.said if line.startswith("time: ") and "computing" in line]
    assert all(seconds > 0 for seconds in training.clock.seconds.values())


def test_the_patterns_are_learnt(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns, {"total_steps": 60})
    training.fit()
    history = training.state.history
    assert len(history) == 10
    best = max(history, key=lambda entry: (entry["val_accuracy"], -entry["val_loss"]))
    assert best["val_accuracy"] == 1.0
    assert training.state.best_step == best["step"]
    assert training.report.best == best


def test_a_run_that_stopped_early_stays_stopped(patterns: Path, tmp_path: Path) -> None:
    changes = {"patience": 1, "total_steps": 600, "optimizer.lr": 1e-9, "optimizer.average_epochs": 0}
    training = start(tmp_path / "run", patterns, changes)
    training.fit()
    assert training.state.stopped_early
    assert training.state.step < 600
    following = again(tmp_path / "run", patterns, changes)
    following.fit()
    assert following.state.step == training.state.step


def test_other_conditions_are_said(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns, {"total_steps": 6})
    training.fit()
    checkpoint = last(tmp_path / "run")
    checkpoint.state.conditions["torch"] = "1.0"
    following = again(tmp_path / "run", patterns, {"total_steps": 6})
    assert following.report.said == []
    following.restore(checkpoint)
    assert "torch was 1.0" in following.report.said[0]


@pytest.mark.parametrize("name", ["pillow", "libjpeg", "rules", "cpu"])
def test_what_decodes_is_a_condition_too(patterns: Path, tmp_path: Path, name: str) -> None:
    training = start(tmp_path / "run", patterns, {"total_steps": 6})
    training.fit()
    checkpoint = last(tmp_path / "run")
    was = checkpoint.state.conditions[name]
    checkpoint.state.conditions[name] = "another"
    following = again(tmp_path / "run", patterns, {"total_steps": 6})
    following.restore(checkpoint)
    assert [f"{name} was another and is {was}" in text for text in following.report.said] == [True]
