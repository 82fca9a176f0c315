"""What a person sees while training: a bar on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TextIO


def duration(seconds: float) -> str:
    """``42 s``, ``3:07 min``, ``2:05 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def epoch_line(entry: dict[str, Any], best: bool) -> str:
    """One epoch in one line; with the mean recall of the classes where it selects."""
    if "val_map" in entry:
        return (
            f"epoch {entry['epoch']:>3}  step {entry['step']:>6}  train loss {entry['train_loss']:.4f}   "
            f"val loss {entry['val_loss']:.4f}  mAP {100 * entry['val_map']:6.2f} %  "
            f"all labels right {100 * entry['val_accuracy']:6.2f} %{'  best' if best else ''}"
        )
    if "spread" in entry:
        return _unlabelled_line(entry)
    recall = f"  mean recall {100 * entry['val_recall']:6.2f} %" if "val_recall" in entry else ""
    last = recall + ("  best" if best else "")
    return (
        f"epoch {entry['epoch']:>3}  step {entry['step']:>6}  "
        f"train loss {entry['train_loss']:.4f}  accuracy {100 * entry['train_accuracy']:6.2f} %   "
        f"val loss {entry['val_loss']:.4f}  accuracy {100 * entry['val_accuracy']:6.2f} %{last}"
    )


def _unlabelled_line(entry: dict[str, Any]) -> str:
    """Of a pretraining: the loss, the views found again, the answers' spread, and what labels say, where there are."""
    known = {"knn": "k-NN", "linear": "linear"}
    shown = "".join(f"  {name} {100 * entry[key]:5.2f} %" for key, name in known.items() if key in entry)
    return (
        f"epoch {entry['epoch']:>3}  step {entry['step']:>6}  train loss {entry['train_loss']:.4f}  "
        f"views found {100 * entry['train_accuracy']:6.2f} %   spread {entry['spread']:.2f}  rank {entry['rank']:.1f}  "
        f"alignment {entry['alignment']:.3f}  uniformity {entry['uniformity']:.2f}{shown}"
    )


class Silent:
    """Says nothing: for processes that are not the first."""

    writes = False

    def start(self, done: int, total: int, batch: int) -> None: ...
    def step(self, done: int, loss: float, rate: float) -> None: ...
    def epoch(self, entry: dict[str, Any], best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Lines:
    """Plain lines: one for each epoch and, in long epochs, one every half minute."""

    writes = True
    every = 30.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.left = False  # whether whoever read the stream has gone, as with 2>&1 | head
        self.done = self.total = self.batch = 0

    def start(self, done: int, total: int, batch: int) -> None:
        self.first, self.done, self.total, self.batch = done, done, total, batch
        self.begun = self.spoken = time.monotonic()
        if total:
            self.say(f"training: steps {done} … {total} of {batch} pictures")

    def timing(self, done: int) -> str:
        """Rate since the start and time left."""
        seconds = max(1e-9, time.monotonic() - self.begun)
        rate = (done - self.first) / seconds
        left = duration((self.total - done) / rate) if rate else "?"
        return f"{rate * self.batch:.0f} pictures/s, {left} left"

    def step(self, done: int, loss: float, rate: float) -> None:
        if time.monotonic() - self.spoken > self.every:
            self.say(f"step {done} of {self.total}  loss {loss:.4f}  rate {rate:.3g}  {self.timing(done)}")
            self.spoken = time.monotonic()

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        start = "" if entry["epoch"] else "what training starts from"
        self.say(epoch_line(entry, best) + f"   {start or self.timing(entry['step'])}")
        self.spoken = time.monotonic()

    def say(self, text: str) -> None:
        if self.left:
            return
        try:
            print(text, file=self.stream, flush=True)
        except BrokenPipeError:  # no reason to stop training
            self.left = True

    def close(self) -> None:
        """Called when training ends, well or not."""


class Bar(Lines):
    """A bar on the last line of a terminal, below the lines of the epochs."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )

    def start(self, done: int, total: int, batch: int) -> None:
        super().start(done, total, batch)
        for finished in list(self.progress.task_ids):
            self.progress.remove_task(finished)
        self.task = self.progress.add_task("", total=total, completed=done, text="")
        self.progress.start()

    def step(self, done: int, loss: float, rate: float) -> None:
        text = f"loss {loss:.3f}  rate {rate:.3g}  {self.timing(done)}"
        self.progress.update(self.task, completed=done, text=text)

    def say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()  # also after an error: a running one hides the terminal's cursor


class TensorBoard:
    """Passes everything on to ``report``, and writes the numbers for TensorBoard into ``directory``."""

    def __init__(self, report: Silent | Lines, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.report = report
        self.writer = SummaryWriter(str(directory))

    def start(self, done: int, total: int, batch: int) -> None:
        self.report.start(done, total, batch)

    def step(self, done: int, loss: float, rate: float) -> None:
        self.writer.add_scalar("train/loss", loss, done)
        self.writer.add_scalar("train/rate", rate, done)
        self.report.step(done, loss, rate)

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        labelled = ("train_accuracy", "val_loss", "val_accuracy", "val_recall", "val_map")
        for name in (*labelled, "spread", "rank", "alignment", "uniformity", "knn", "linear"):
            if name in entry:
                self.writer.add_scalar(name.replace("_", "/"), entry[name], entry["step"])
        self.writer.flush()
        self.report.epoch(entry, best)

    def say(self, text: str) -> None:
        self.report.say(text)

    def close(self) -> None:
        self.writer.close()
        self.report.close()


def reporter(main: bool = True) -> Silent | Lines:
    """The right one for this process and this stderr."""
    if not main:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()
