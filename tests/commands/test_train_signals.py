"""Real processes, really killed: exit codes, messages, and the same bits after resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import digest, last, write_patterns

from resight.commands import resume as resuming
from resight.commands.resume import resume
from resight.commands.train import train
from resight.exporting import seal as sealing
from resight.runs import CHECKPOINTS, ONNX, WEIGHTS, Run
from resight.training.checkpoint import found

SETTINGS = {"model.options.stem": "tiny", "save_steps": 5, "threads": 1}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_patterns(tmp_path / "data")


def stopped_after_an_epoch(data: Path, out: Path, steps: int, number: int) -> subprocess.CompletedProcess[str]:
    """``resight train``, sent a signal when it has said its first epoch."""
    settings = {**SETTINGS, "total_steps": steps}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "resight.cli", "train", str(data), "--out", str(out)),
            *("--model", "resnet20", "--batch", "8", "--workers", "1", "--device", "cpu"),
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    said = ""
    while "epoch   1" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(number)
    out_text, rest = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out_text, said + rest)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(number: int, code: int, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "my rün"
    done = stopped_after_an_epoch(data, run, 100_000, number)
    assert done.returncode == code
    assert done.stdout == ""
    assert f"continue with: resight resume {run}" in done.stderr
    assert "Traceback" not in done.stderr
    state = last(run).state
    assert state.step >= 6
    assert f"stopped at step {state.step} of 100000, saved" in done.stderr
    assert not list(run.rglob("*.tmp"))


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Callable[[str], None]) -> None:
        for name in (WEIGHTS, ONNX):
            (run.path / name).write_bytes(b"not tested here")
        run.seal()

    monkeypatch.setattr(sealing, "seal", seal)
    monkeypatch.setattr(resuming, "_summary", lambda run, say: None)


@pytest.mark.usefixtures("no_export")
def test_after_kill_9_the_result_is_the_same(data: Path, tmp_path: Path) -> None:
    train(
        data,
        model="resnet20",
        batch=8,
        workers=1,
        device="cpu",
        out=tmp_path / "straight",
        set={**SETTINGS, "total_steps": 40},
    )
    done = stopped_after_an_epoch(data, tmp_path / "killed", 40, signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL
    assert Run.open(tmp_path / "killed", sealed=False).card.status in ("training", "trained")
    assert found(tmp_path / "killed" / CHECKPOINTS)
    resume(tmp_path / "killed")
    assert digest(tmp_path / "killed") == digest(tmp_path / "straight")
