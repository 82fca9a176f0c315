"""SIGINT and SIGTERM ask training to stop after the current step, so that its state can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class StopRequest:
    """``number`` is the signal that asked, or 0. Further signals change nothing: the save is under way."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.number = 0
        self._notice = notice

    def receive(self, number: int, _: FrameType | None) -> None:
        if not self.number:
            self.number = number
            with suppress(RuntimeError):  # a signal in the middle of a print: stderr is not reentrant
                self._notice(f"{signal.Signals(number).name} received: saving, then stopping")


@contextmanager
def stop_on_signal(notice: Callable[[str], None]) -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM while inside. Outside the main thread Python allows no handlers: none are set."""
    request = StopRequest(notice)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {s: signal.signal(s, request.receive) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
