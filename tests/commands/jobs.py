"""Jobs that are stopped half-way, for the tests of going on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.inference import tiny

from resight.commands.batch import predict_to_file
from resight.commands.progress import Progress
from resight.errors import Interrupted
from resight.runs import Run

PICTURES = 23


def write_photos(root: Path) -> Path:
    """``PICTURES`` pictures, one of them none, and one more whose name is no UTF-8."""
    for k in range(PICTURES):
        tiny.write_picture(root / f"{k}.png", tiny.CLASSES[k % 3], k)
    (root / "5.png").write_bytes(b"no picture")
    tiny.write_picture(root / os.fsdecode(b"\xff\n.png"), "red")
    return root


def write_straight(run: Run, photos: Path, folder: Path) -> bytes:
    """What an uninterrupted job writes."""
    out = folder / "out.jsonl"
    written = predict_to_file(run, photos, out, threads=2, batch=4)
    assert (written.number, written.failed) == (PICTURES + 1, 1)
    assert os.listdir(folder) == ["out.jsonl"]
    return out.read_bytes()


class StopAt(Progress):
    """Stops the job after so many answers: by a signal to this very process, or by an exception."""

    def __init__(self, number: int, how: int | BaseException) -> None:
        self.number, self.how, self.said = number, how, ""

    def show(self, done: int, failed: int) -> None:
        if done == self.number:
            if isinstance(self.how, BaseException):
                raise self.how
            os.kill(os.getpid(), self.how)

    def say(self, text: str) -> None:
        self.said += text + "\n"


def stopped(run: Run, photos: Path, out: Path, number: int = 13, **options: Any) -> None:
    """Begun, and stopped after ``number`` answers."""
    with pytest.raises(Interrupted):
        predict_to_file(
            run, photos, out, progress=StopAt(number, signal.SIGTERM), **{"threads": 2, "batch": 4, **options}
        )
