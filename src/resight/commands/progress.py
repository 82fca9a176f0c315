"""How far a long answer is: a bar on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TextIO

from resight.images import printable
from resight.training.progress import duration  # needs no PyTorch


class Progress:
    """Says nothing: what a program wants."""

    def start(self, done: int, total: int) -> None:
        """``done`` of ``total`` pictures were answered before."""

    def show(self, done: int, failed: int) -> None:
        """After each picture: how many are answered, and how many of these could not be read."""

    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Lines(Progress):
    """A line every half minute, so that a short job says nothing."""

    every = 30.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.left = False  # whether whoever read the stream has gone, as with 2>&1 | head

    def start(self, done: int, total: int) -> None:
        self.first, self.total = done, total
        self.begun = self.spoken = time.monotonic()

    def timing(self, done: int, failed: int) -> str:
        """Rate since the start, time left, errors so far."""
        seconds = max(1e-9, time.monotonic() - self.begun)
        rate = (done - self.first) / seconds
        left = duration((self.total - done) / rate) if rate else "?"
        errors = f", {failed:,} could not be read" if failed else ""
        return f"{rate:,.{0 if rate >= 10 else 1}f} pictures/s, {left} left{errors}"

    def show(self, done: int, failed: int) -> None:
        now = time.monotonic()
        if now - self.spoken >= self.every:
            self.spoken = now
            self.say(f"{done:,} of {self.total:,}  {self.timing(done, failed)}")

    def say(self, text: str) -> None:
        if self.left:
            return
        try:
            self.stream.write(printable(text, 2000) + "\n")
            self.stream.flush()
        except BrokenPipeError:  # no reason to stop
            self.left = True


class Bar(Lines):
    """A bar on the last line of a terminal."""

    every = 0.2

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )

    def start(self, done: int, total: int) -> None:
        super().start(done, total)
        self.task = self.progress.add_task("", total=total, completed=done, text="")
        self.progress.start()

    def show(self, done: int, failed: int) -> None:
        now = time.monotonic()
        if now - self.spoken >= self.every:
            self.spoken = now
            self.progress.update(self.task, completed=done, text=self.timing(done, failed))

    def say(self, text: str) -> None:
        self.progress.console.print(printable(text, 2000), markup=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()  # also after an error: a running one hides the terminal's cursor


@contextmanager
def on_stderr() -> Iterator[Progress]:
    """A bar where stderr is a terminal, lines where it is not; closed at the end, well or not."""
    with closing(Bar() if sys.stderr.isatty() else Lines()) as progress:
        yield progress
