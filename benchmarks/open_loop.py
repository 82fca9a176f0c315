"""Open-loop traffic: requests are sent at their times, whatever became of those before. For ``serving.py``.

A latency counts from the time at which a request was due, so that a server which stalls cannot hide it. What this
process itself was late is in it, too; ``own`` says how much at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BROKEN, UNREACHED = "broken", "unreached"
"""A connection that ended without an answer to a request; one that could not be opened at all."""


@dataclass
class Traffic:
    """What came of it: seconds by status (or ``BROKEN``, ``UNREACHED``), how long it took, and the seconds by which a
    request was sent too late at most.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    lasted: float = 0.0
    own: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        return Counter({status: len(times) for status, times in self.seconds.items()})

    def percentiles(self, status: str, which: Sequence[float] = (50, 95, 99)) -> list[float]:
        """Milliseconds of the answers with this status; NaN where there are none."""
        times = self.seconds.get(status)
        return [float(1000 * np.percentile(times, p)) if times else float("nan") for p in which]

    @property
    def rate(self) -> float:
        """Answers with status 200 a second."""
        return self.counts["200"] / self.lasted


def request(data: bytes, path: str = "/predict") -> bytes:
    """One picture as the body of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pool:
    """Connections that are kept open between requests."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, list[Pair]()

    async def ask(self, data: bytes) -> str:
        """The status of the answer."""
        self._free = [(reader, writer) for reader, writer in self._free if not reader.at_eof()]  # closed while unused
        try:
            pair = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return UNREACHED
        try:
            status, keep = await self._exchange(*pair, data)
        except (OSError, asyncio.IncompleteReadError):
            pair[1].close()
            return BROKEN
        if keep:
            self._free.append(pair)
        else:
            pair[1].close()
        return status

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
    ) -> tuple[str, bool]:
        writer.write(data)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(length)
        return head.split()[1], "connection: close" not in head

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def traffic(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Traffic:
    """``rate`` requests a second at random times (a Poisson process), for ``seconds``; waits for all answers."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=max(1, int(2 * rate * seconds) + 50))
    due = [moment for moment in np.cumsum(gaps) if moment < seconds]
    found, pool = Traffic(), Pool(port)

    async def one(number: int, moment: float) -> None:
        found.own = max(found.own, time.perf_counter() - start - moment)
        status = await pool.ask(requests[number % len(requests)])
        found.seconds.setdefault(status, []).append(time.perf_counter() - start - moment)

    start = time.perf_counter()
    tasks = []
    for number, moment in enumerate(due):
        await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, moment)))
    await asyncio.gather(*tasks)
    found.lasted = max(seconds, time.perf_counter() - start)
    pool.close()
    return found
