"""How much is held at a time, by count of pictures and by bytes: beyond that, requests are refused at once."""

from __future__ import annotations

import math
import time
from types import TracebackType

from resight.serving.limits import Limits
from resight.serving.metrics import Metrics
from resight.serving.refusals import Refused

_SLOWEST = 30
_MEMORY = 0.9
"""What is kept of the measured rate of answers at each new one."""


class Admission:
    """Counts what is held. Used from the event loop only."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.pictures = 0
        self.bytes = 0
        self.draining = False
        self._seconds = 0.0  # for each picture, while there is work
        self._last = 0.0

    def check(self) -> None:
        """Raises Refused where nothing is accepted now: known from a request's head, before its body is read."""
        if self.draining:
            raise Refused(
                503, "draining", "the server is stopping: ask again, another one may answer", retry_after=1, close=True
            )
        if self.pictures >= self.limits.queue:
            raise self._full(f"{self.pictures} pictures are waiting, as many as allowed")

    def ticket(self) -> Ticket:
        """What one request holds. Raises as ``check``."""
        self.check()
        return Ticket(self)

    def take(self, pictures: int, size: int) -> None:
        """Raises Refused where there is no room."""
        if self.pictures + pictures > self.limits.queue:
            raise self._full(f"{self.pictures} pictures are waiting, {self.limits.queue} are allowed")
        if self.bytes + size > self.limits.queue_bytes:
            raise self._full("too many bytes are waiting")
        self.give(-pictures, -size)

    def give(self, pictures: int, size: int) -> None:
        self.pictures -= pictures
        self.bytes -= size
        self.metrics.pending.set(self.pictures)
        self.metrics.pending_bytes.set(self.bytes)

    def answered(self, pictures: int) -> None:
        """Tells how fast answers come, for ``Retry-After``."""
        now = time.monotonic()
        if self._last and self.pictures:
            each = min(now - self._last, _SLOWEST) / max(1, pictures)
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * each if self._seconds else each
        self._last = now

    def _full(self, message: str) -> Refused:
        wait = min(_SLOWEST, max(1, math.ceil(self._seconds * self.pictures)))
        return Refused(429, "full", f"{message}: ask again in {wait} s", retry_after=wait)


class Ticket:
    """What one request holds, given back at the end of ``with``."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._pictures = self._bytes = 0

    def take(self, *, pictures: int = 0, size: int = 0) -> None:
        self._admission.take(pictures, size)
        self._pictures += pictures
        self._bytes += size

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.give(self._pictures, self._bytes)
        if kind is None and self._pictures:
            self._admission.answered(self._pictures)
