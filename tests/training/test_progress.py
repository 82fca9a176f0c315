"""What a person sees, and that it ends cleanly."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resight.training import progress
from resight.training.progress import Bar, Lines, Silent, TensorBoard, duration
from resight.training.signals import StopRequest

ENTRY: dict[str, Any] = {
    "epoch": 3,
    "step": 30,
    "train_loss": 0.5,
    "train_accuracy": 0.75,
    "val_loss": 0.25,
    "val_accuracy": 0.875,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (42.4, "42 s"), (60, "1:00 min"), (187, "3:07 min"), (3600, "1:00 h"), (7500, "2:05 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_say_each_epoch_and_mark_the_best() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(0, 100, 8)
    lines.epoch(ENTRY, True)
    lines.epoch(ENTRY, False)
    lines.close()
    first, best, other = stream.getvalue().splitlines()
    assert "steps 0 … 100" in first
    for part in ("epoch   3", "0.5000", "75.00 %", "0.2500", "87.50 %", "best"):
        assert part in best
    assert "best" not in other


def test_long_epochs_speak_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(10, 110, 8)
    for step in range(11, 51):
        now[0] += 1.0
        lines.step(step, 0.5, 0.1)
    _, spoken = stream.getvalue().splitlines()
    assert "step 41 of 110" in spoken
    assert "8 pictures/s" in spoken
    assert "1:09 min left" in spoken


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.start(0, 1, 1)
    silent.step(1, 0.0, 0.0)
    silent.epoch(ENTRY, True)
    silent.say("x")
    silent.close()
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_gone_when_training_ends_and_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    stream = io.StringIO()
    bar = Bar()
    monkeypatch.setattr(
        bar.progress.live, "console", Console(file=stream, force_terminal=True, width=80, highlight=False)
    )
    bar.start(0, 10, 8)
    assert bar.progress.live.is_started
    bar.step(1, 0.5, 0.1)
    bar.epoch(ENTRY, True)
    bar.say("[bold]a folder[/bold]")
    bar.close()
    assert not bar.progress.live.is_started
    text = stream.getvalue()
    assert "[bold]a folder[/bold]" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor was hidden, and is back


def test_tensorboard_holds_the_numbers(tmp_path: Path) -> None:
    board = TensorBoard(Silent(), tmp_path / "tensorboard")
    board.start(0, 2, 8)
    board.step(1, 0.5, 0.1)
    board.step(2, 0.25, 0.2)
    board.epoch(ENTRY, True)
    board.say("hello")
    board.close()
    scalars = read_scalars(tmp_path / "tensorboard")
    assert scalars["train/loss"] == [(1, 0.5), (2, 0.25)]
    assert scalars["val/accuracy"] == [(30, 0.875)]


def read_scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_signal_in_the_middle_of_a_print_is_remembered_all_the_same() -> None:
    def reentrant(_: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    request = StopRequest(reentrant)
    request.receive(signal.SIGTERM, None)
    request.receive(signal.SIGINT, None)
    assert request.number == signal.SIGTERM


class Gone(io.StringIO):
    """A pipe whose reader has left, as with ``resight train DATA 2>&1 | head``."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_leaves_does_not_stop_training() -> None:
    report = Lines(Gone())
    report.say("nobody reads this")
    assert report.left
    report.say("nor this")
