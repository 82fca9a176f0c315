"""Doing something to each of many items in threads: in order, and never far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, window: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed in ``threads`` threads.

    At most ``window`` results wait at a time, and ``items`` is read no further than that. What ``function``
    raises is raised here, in its place. Left early, it finishes what runs and starts nothing more.
    """
    queue = iter(items)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            waiting.extend(pool.submit(function, item) for item in islice(queue, window))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(queue, 1))
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items each; the last may be shorter."""
    queue = iter(items)
    while batch := list(islice(queue, size)):
        yield batch
