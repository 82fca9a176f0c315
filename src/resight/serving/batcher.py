"""Squares of many requests, computed together. Nothing waits for a batch to fill: a batch is what is there when a
thread is free.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resight.inference.backend import Floats, Pixels
from resight.serving.metrics import Metrics

Row = dict[str, Floats]
"""Of one picture: each output that was asked for, by name."""


class Network(Protocol):
    """What computes: a Predictor."""

    def compute(self, squares: Pixels, outputs: Sequence[str], *, alone: bool) -> list[Floats]: ...


@dataclass(eq=False)
class _Item:
    network: Network
    square: Pixels
    outputs: tuple[str, ...]
    future: asyncio.Future[Row]
    since: float


class Batcher:
    """``threads`` threads, each computing up to ``batch`` squares of one network at a time, oldest first.

    Used from one event loop. A future that is cancelled takes its square out of the queue. Where several threads are
    free, what waits is shared among them. A batch that fails is computed again one by one: a square fails alone.
    """

    def __init__(self, threads: int, batch: int, metrics: Metrics) -> None:
        self.threads, self.batch, self._metrics = threads, batch, metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")
        self._waiting: deque[_Item] = deque()
        self._running = 0
        self._scheduled = False

    def submit(self, network: Network, square: Pixels, outputs: Sequence[str]) -> asyncio.Future[Row]:
        """Queues a square, uint8 (S, S, C). The future gives a row of each output, or what ``compute`` raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Row] = loop.create_future()
        self._waiting.append(_Item(network, square, tuple(outputs), future, time.perf_counter()))
        if not self._scheduled:  # so that squares that come together are computed together
            self._scheduled = True
            loop.call_soon(self._dispatch)
        return future

    @property
    def waiting(self) -> int:
        return sum(not item.future.done() for item in self._waiting)

    def close(self) -> None:
        """Starts nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._running < self.threads and (group := self._next()):
            self._running += 1
            alone = self._running == 1 and not self._waiting
            work = asyncio.get_running_loop().run_in_executor(self._pool, _computed, group, alone)
            work.add_done_callback(lambda done, group=group: self._finished(group, done))  # type: ignore[misc]
            now = time.perf_counter()
            self._metrics.batch_size.observe(len(group))
            for item in group:
                self._metrics.queue_seconds.observe(now - item.since)

    def _next(self) -> list[_Item]:
        """The oldest squares of one network: a fair share for each free thread, at most ``batch``."""
        live = [item for item in self._waiting if not item.future.done()]
        same = [item for item in live if item.network is live[0].network]
        share = -(-len(same) // (self.threads - self._running))
        group = same[: min(self.batch, share)]
        taken = set(map(id, group))
        self._waiting = deque(item for item in live if id(item) not in taken)
        return group

    def _finished(self, group: list[_Item], done: asyncio.Future[tuple[list[Row | Exception], float]]) -> None:
        self._running -= 1
        if done.cancelled():  # the pool was closed
            for item in group:
                item.future.cancel()
            return
        rows, seconds = done.result()
        self._metrics.compute_seconds.observe(seconds)
        for item, row in zip(group, rows, strict=True):
            if item.future.done():
                continue  # nobody waits for it any more
            if isinstance(row, Exception):
                item.future.set_exception(row)
            else:
                item.future.set_result(row)
        self._dispatch()


def _computed(group: list[_Item], alone: bool) -> tuple[list[Row | Exception], float]:
    """A row, or why there is none, for each item; and the seconds that it took. In one of the threads."""
    start = time.perf_counter()
    rows: list[Row | Exception]
    try:
        rows = [*_rows(group, alone)]
    except Exception as error:
        rows = [error] if len(group) == 1 else [_computed([item], alone)[0][0] for item in group]
    return rows, time.perf_counter() - start


def _rows(group: list[_Item], alone: bool) -> list[Row]:
    """With all that any of them asks for: every picture of a batch takes the same way through the network."""
    outputs = list(dict.fromkeys(name for item in group for name in item.outputs))
    arrays = group[0].network.compute(np.stack([item.square for item in group]), outputs, alone=alone)
    return [{name: array[k] for name, array in zip(outputs, arrays, strict=True)} for k in range(len(group))]
