"""What a person sees of a long answer."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.inference import tiny
from typer.testing import CliRunner

from resight.cli import app
from resight.commands import progress
from resight.commands.progress import Bar, Lines, Progress, on_stderr


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


def test_lines_come_now_and_then_with_rate_time_left_and_errors(now: list[float]) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(1000, 5000)  # what was answered before does not count as fast
    for done in range(1001, 1901):
        now[0] = (done - 1000) / 10
        lines.show(done, failed=done // 1500)
    lines.close()
    found = stream.getvalue().splitlines()
    assert len(found) == 3
    assert found[0].startswith("1,300 of 5,000  10")
    assert "pictures/s, 6:10 min left" in found[0]
    assert "could not be read" not in found[0]
    assert found[2].endswith("5:10 min left, 1 could not be read")


def test_a_short_job_says_nothing(now: list[float]) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(0, 10)
    lines.show(10, 0)
    assert stream.getvalue() == ""


def test_a_bar_is_gone_at_the_end_and_names_are_no_markup(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    stream = io.StringIO()
    bar = Bar()
    console = Console(file=stream, force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(bar.progress.live, "console", console)
    bar.start(0, 2000)
    now[0] = 2.0
    bar.show(500, failed=2)
    bar.progress.refresh()
    bar.say("continuing [bold]my\x1b folder[/bold]")
    bar.close()
    text = stream.getvalue()
    assert "500/2000" in text
    assert "250 pictures/s, 6 s left, 2 could not be read" in text
    assert "continuing [bold]my\\x1b folder[/bold]" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor was hidden, and is back


class Gone(io.StringIO):
    """A pipe whose reader has left, as with ``resight predict … 2>&1 | head``."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_leaves_stops_nothing() -> None:
    lines = Lines(Gone())
    lines.say("nobody reads this")
    assert lines.left
    lines.say("nor this")


def test_a_bar_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_stderr() as found:
        assert type(found) is Lines
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with on_stderr() as found:
        assert type(found) is Bar
    silent = Progress()
    silent.start(0, 1)
    silent.show(1, 0)
    silent.say("x")


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.jsonl", "out.parquet", "out.txt"])
def test_every_file_is_counted_and_stdout_is_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    starts: list[tuple[int, int]] = []
    monkeypatch.setattr(Lines, "start", lambda self, done, total: starts.append((done, total)))
    monkeypatch.setattr(Lines, "show", lambda self, done, failed: seen.append((done, failed)))
    run = tiny.make_run(tmp_path / "run")
    data = tiny.write_folder(tmp_path / "photos", each=2)
    (data / "bad.png").write_bytes(b"no picture")  # the first: files come before folders

    def predict(*words: str) -> Any:
        return CliRunner().invoke(app, ["predict", str(run.path), str(data), *words])

    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    assert predict("--out", str(tmp_path / name)).exit_code == 1
    assert starts == [(0, 7)]
    assert seen == [(k, 1) for k in range(1, 8)]
    assert predict().exit_code == 1
    assert len(starts) == 1
