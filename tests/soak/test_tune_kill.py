"""Killed at random moments and gone on with each time, a study ends with the trials of one that was not killed.

``pytest -m soak -s tests/soak/test_tune_kill.py`` prints every moment. RESIGHT_SOAK_SEED chooses other ones.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import write_patterns

from resight.runs import Run

KILLS, TRIALS = 8, 7


def launch(folder: Path, data: Path) -> subprocess.Popen[bytes]:
    """``tune`` where there is no study yet, ``resume`` where there is one."""
    resight = [sys.executable, "-m", "resight.cli"]
    if (folder / "study.json").exists():
        command = [*resight, "resume", str(folder)]
    else:
        settings = ["model.options.stem=tiny", "total_steps=30", "threads=1", "save_steps=3"]
        options = ["--model", "resnet20", "--batch", "8", "--workers", "0", "--device", "cpu", "--space", "lr,mixup"]
        command = [*resight, "tune", str(data), "--trials", str(TRIALS), "--out", str(folder), *options]
        command += [part for setting in settings for part in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def trials(folder: Path) -> list[dict[str, Any]]:
    """The ended ones of study.json, without their times."""
    path = folder / "study.json"
    result = json.loads(path.read_text("utf-8"))["result"] if path.exists() else None
    rows = result["trials"] if result else []
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def ended(folder: Path) -> int:
    """Trials whose end is in the journal."""
    path = folder / "journal.jsonl"
    lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
    return sum('"op_code":6' in line for line in lines)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is what is tested")
def test_kills_lose_no_finished_trial(tmp_path: Path) -> None:
    seed = int(os.environ.get("RESIGHT_SOAK_SEED", "0"))
    moments = random.Random(seed)
    data = write_patterns(tmp_path / "patterns")
    begun = time.monotonic()
    assert launch(tmp_path / "straight", data).wait() == 0
    whole = time.monotonic() - begun
    expected = trials(tmp_path / "straight")
    assert len(expected) == TRIALS
    print(f"\nseed {seed}; uninterrupted: {whole:.1f} s")

    kills, finished = 0, 0
    while True:
        folder = tmp_path / f"killed-{finished + 1}"
        before, process = ended(folder), launch(folder, data)
        after = moments.uniform(0, 0.3 * whole) if kills < KILLS else None
        try:
            assert process.wait(timeout=after) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            print(f"kill {kills} after {after:5.2f} s: {ended(folder)} of {TRIALS} trials ended")
            assert ended(folder) >= before
            assert trials(folder) == expected[: len(trials(folder))]
            continue
        finished += 1
        assert trials(folder) == expected
        assert ended(folder) == TRIALS
        best = [path for path in folder.glob("trial-*") if Run.open(path, sealed=False).card.status == "sealed"]
        assert len(best) == 1
        if kills == KILLS:
            break
