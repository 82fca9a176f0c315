"""Two real processes: the mean of the shards' gradients, every picture counted once, one writer, exact resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from resight.evaluation import accuracy, log_loss
from resight.runs import CHECKPOINTS, Run
from resight.training.augment import apply
from resight.training.checkpoint import found, newest

from .tiny import Recorder, again, digest, last, start, tiny_teacher, write_patterns

ROOT = Path(__file__).parents[2]
ONE_STEP: dict[str, Any] = {
    "total_steps": 1,
    "optimizer.nesterov": False,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "optimizer.average_epochs": 0,
}
SEVERAL: dict[str, Any] = {
    "total_steps": 9,
    "model.options.stochastic_depth": 0.3,
    "micro_batch": 3,
    "balance.sampling": "sqrt",
    "select": "balanced",
}


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "torch.distributed.run"),
            *("--standalone", "--nproc-per-node", "2", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("data") / "data", each=25)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    several = SEVERAL | {"distill.teacher": str(tiny_teacher(root / "teacher").path)}
    done = torchrun(str(script), str(root), str(data), json.dumps(ONE_STEP), json.dumps(several))
    assert done.returncode == 0, done.stderr
    return root


def test_gradients_are_the_mean_of_the_shards(trained: Path, data: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", data, ONE_STEP)
    net = training.net.train()
    batch = training.loader.make(0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = training.objective.normalize(apply(training.config.augment, batch.pixels, batch.parameters))
    after: list[dict[str, torch.Tensor]] = []
    for rank in (1, 0):  # each shard with the norm statistics of its own pictures
        net.load_state_dict(before)
        F.cross_entropy(net(images[rank::2]), batch.labels[rank::2]).backward()
        after.append({name: value.clone() for name, value in net.named_buffers()})
    found_weights = last(trained / "one").weights
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        expected = before[name] - 0.05 * parameter.grad / 2  # backward summed the two shards' gradients
        torch.testing.assert_close(found_weights[name], expected, rtol=1e-5, atol=1e-7)
    for name, value in after[1].items():  # the first process's statistics are kept
        torch.testing.assert_close(found_weights[name], value)


def test_every_picture_is_counted_once_and_answered_by_the_saved_network(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    (entry,) = last(trained / "one").state.history
    assert entry["train_accuracy"] * 8 == pytest.approx(round(entry["train_accuracy"] * 8))
    single = start(tmp_path / "run", data, ONE_STEP)
    assert len(single.val) % 2 == 1  # so that the two shares differ in length
    single.restore(last(trained / "one"))
    pixels = torch.stack([torch.tensor(single.val[i]).permute(2, 0, 1) for i in range(len(single.val))])
    with torch.inference_mode():
        logits = single.net.eval()(single.objective.normalize(pixels)).numpy()
    assert entry["val_accuracy"] == accuracy(logits, single.val.labels).share
    assert entry["val_loss"] == pytest.approx(log_loss(logits, single.val.labels), rel=1e-5)


def test_a_signal_to_one_process_stops_both_and_resuming_is_exact(trained: Path) -> None:
    for rank in (0, 1):
        outcome = json.loads((trained / f"rank{rank}.json").read_text())
        assert outcome["code"] == 143
        assert "stopped at step 4 of 9" in outcome["text"]
        assert outcome["smallest"] == 3
    assert digest(trained / "stopped") == digest(trained / "straight")


def test_only_whole_checkpoints_are_left(trained: Path) -> None:
    for name in ("one", "straight", "stopped"):
        directory = trained / name / CHECKPOINTS
        assert sorted(directory.iterdir()) == sorted(found(directory))
        assert newest(Run.open(trained / name, sealed=False), print) is not None


def test_another_number_of_processes_is_said(trained: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = last(trained / "straight")
    training = start(tmp_path / "run", data, SEVERAL, report := Recorder())
    training.restore(checkpoint)
    assert any("processes was 2 and is 1" in line for line in report.said)
    assert again(trained / "straight", data, SEVERAL).state.step == 9


def test_one_sealed_run_results(data: Path, tmp_path: Path) -> None:
    options = "--model resnet20 --batch 8 --workers 0 --device cpu --set total_steps=3"
    done = torchrun(
        "-m", "resight.cli", "train", str(data), *options.split(),
        *("--set", "model.options.stem=tiny", "--out", str(tmp_path / "run")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stderr.count("training: steps 0 … 3") == 1  # one process speaks
    run = Run.open(tmp_path / "run")
    assert [entry["step"] for entry in last(run.path).state.history] == [3]
    assert run.card.parity["max_abs"] <= 1e-4
