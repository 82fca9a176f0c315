"""Killed at ten random moments and resumed each time, training ends with the very bits of one that was not.

``pytest -m soak -s tests/soak/test_kill.py`` prints every moment. RESIGHT_SOAK_SEED chooses other ones.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resight.commands.demo import write_digits
from resight.runs import CARD, CHECKPOINTS, WEIGHTS, Run
from resight.training.checkpoint import found

KILLS = 10


def command(run: Path, data: Path) -> list[str]:
    """``train`` where there is no Run yet, ``resume`` where there is one."""
    resight = [sys.executable, "-m", "resight.cli"]
    if (run / CARD).exists():
        return [*resight, "resume", str(run)]
    options = ["--model", "resnet20", "--epochs", "2", "--device", "cpu", "--seed", "3", "--out", str(run)]
    settings = ["augment.flip=none", "save_steps=5", "threads=1"]
    return [*resight, "train", str(data), *options, *(part for s in settings for part in ("--set", s))]


def launch(run: Path, data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(run, data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def weights_hash(run: Path) -> str:
    assert Run.open(run).card.status == "sealed"
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()


def where(run: Path) -> str:
    """What a kill left behind."""
    if not (run / CARD).exists():
        return "no Run yet"
    status = Run.open(run, sealed=False).card.status
    newest = found(run / CHECKPOINTS)
    half = [path.name for path in run.rglob("*.tmp")]
    return f"status {status}, newest {newest[0].name if newest else 'none'}" + (f", half {half}" if half else "")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is what is tested")
def test_ten_kills_change_no_bit(tmp_path: Path) -> None:
    seed = int(os.environ.get("RESIGHT_SOAK_SEED", "0"))
    moments = random.Random(seed)
    data = write_digits(tmp_path / "digits")
    begun = time.monotonic()
    assert launch(tmp_path / "straight", data).wait() == 0
    whole = time.monotonic() - begun
    expected = weights_hash(tmp_path / "straight")
    print(f"\nseed {seed}; uninterrupted: {whole:.1f} s, model.safetensors sha256 {expected[:16]}…")

    kills, finished, interrupted = 0, 0, False
    while kills < KILLS or interrupted:
        run = tmp_path / f"killed-{finished + 1}"
        process = launch(run, data)
        # Anywhere: start-up, steps, saves, validation, sealing.
        after = moments.uniform(0, 0.8 * whole) if kills < KILLS else None
        try:
            code = process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills, interrupted = kills + 1, True
            print(f"kill {kills:>2} after {after:5.2f} s: {where(run)}")
            continue
        assert code == 0
        finished, interrupted = finished + 1, False
        print(f"finished, sha256 {weights_hash(run)[:16]}…")
        assert weights_hash(run) == expected
