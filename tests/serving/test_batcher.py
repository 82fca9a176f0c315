"""Which squares are computed together, and what becomes of each: with a network that does as it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from resight.serving.batcher import Batcher
from resight.serving.metrics import Metrics


class Net:
    """Answers with the mean of each square, when it is let go. ``bad``: a value that it fails at."""

    def __init__(self, *, bad: int | None = None, free: bool = False) -> None:
        self.go, self.begun, self.bad = threading.Event(), threading.Semaphore(0), bad
        self.calls: list[tuple[list[int], tuple[str, ...], bool]] = []
        if free:
            self.go.set()

    def compute(self, squares: Any, outputs: Sequence[str], *, alone: bool) -> list[Any]:
        values = [int(square[0, 0, 0]) for square in squares]
        self.calls.append((values, tuple(outputs), alone))
        self.begun.release()
        assert self.go.wait(20)
        if self.bad in values:
            raise ValueError("bad")
        return [np.array(values, np.float32) + k for k, _ in enumerate(outputs)]

    @property
    def batches(self) -> list[list[int]]:
        return [values for values, _, _ in self.calls]


def square(value: int) -> Any:
    return np.full((2, 2, 1), value, np.uint8)


async def begun(net: Net) -> None:
    assert await asyncio.to_thread(net.begun.acquire, True, 20)


def test_what_waits_becomes_the_next_batch_in_order() -> None:
    async def main() -> None:
        net, batcher = Net(), Batcher(1, 8, Metrics())
        first = batcher.submit(net, square(0), ["p"])
        await begun(net)
        others = [batcher.submit(net, square(k), ["p"]) for k in range(1, 12)]
        assert batcher.waiting == 11
        net.go.set()
        rows = await asyncio.gather(first, *others)
        assert [float(row["p"]) for row in rows] == list(range(12))
        assert net.batches == [[0], [*range(1, 9)], [9, 10, 11]]
        batcher.close()

    asyncio.run(main())


def test_free_threads_share_what_comes_together() -> None:
    async def main() -> None:
        net, batcher = Net(), Batcher(2, 8, Metrics())
        rows = [batcher.submit(net, square(k), ["p"]) for k in range(6)]
        await begun(net)
        await begun(net)
        net.go.set()
        await asyncio.gather(*rows)
        assert sorted(net.batches) == [[0, 1, 2], [3, 4, 5]]
        assert [alone for _, _, alone in net.calls] == [False, False]
        batcher.close()

    asyncio.run(main())


def test_a_single_square_gets_all_threads_unless_another_is_computed() -> None:
    async def main() -> None:
        net, batcher = Net(), Batcher(2, 8, Metrics())
        rows = [batcher.submit(net, square(0), ["p"])]
        await begun(net)
        rows.append(batcher.submit(net, square(1), ["p"]))
        await begun(net)
        net.go.set()
        await asyncio.gather(*rows)
        assert [alone for _, _, alone in net.calls] == [True, False]
        batcher.close()

    asyncio.run(main())


def test_networks_are_not_mixed_and_none_is_forgotten() -> None:
    async def main() -> None:
        one, other, batcher = Net(), Net(free=True), Batcher(1, 8, Metrics())
        rows = [batcher.submit(one, square(0), ["p"])]
        await begun(one)
        rows += [batcher.submit(net, square(k), ["p"]) for k, net in enumerate([other, one, other, one], 1)]
        one.go.set()
        found = await asyncio.gather(*rows)
        assert [float(row["p"]) for row in found] == [0, 1, 2, 3, 4]
        assert one.batches == [[0], [2, 4]]
        assert other.batches == [[1, 3]]
        batcher.close()

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def main() -> None:
        net, metrics = Net(), Metrics()
        batcher = Batcher(1, 8, metrics)
        first = batcher.submit(net, square(0), ["p"])
        await begun(net)
        others = [batcher.submit(net, square(k), ["p"]) for k in (1, 2, 3)]
        others[1].cancel()
        first.cancel()  # it runs: its answer is dropped
        net.go.set()
        await asyncio.gather(others[0], others[2])
        assert net.batches == [[0], [1, 3]]
        assert batcher.waiting == 0
        assert metrics.registry.get_sample_value("resight_batch_size_sum") == 3
        batcher.close()

    asyncio.run(main())


def test_a_square_that_fails_fails_alone() -> None:
    async def main() -> None:
        net, batcher = Net(bad=2), Batcher(1, 8, Metrics())
        rows = [batcher.submit(net, square(0), ["p"])]
        await begun(net)
        rows += [batcher.submit(net, square(k), ["p"]) for k in (1, 2, 3)]
        net.go.set()
        found = await asyncio.gather(*rows, return_exceptions=True)
        assert isinstance(found.pop(2), ValueError)
        assert [float(row["p"]) for row in found] == [0, 1, 3]  # type: ignore[index]
        batcher.close()

    asyncio.run(main())


def test_a_batch_is_asked_once_for_all_that_is_wanted() -> None:
    async def main() -> None:
        net, batcher = Net(), Batcher(1, 8, Metrics())
        first = batcher.submit(net, square(9), ["p"])
        await begun(net)
        rows = [batcher.submit(net, square(k), names) for k, names in enumerate([("p", "q"), ("r",), ("q",)])]
        net.go.set()
        found = await asyncio.gather(*rows)
        await first
        assert net.calls[1][1] == ("p", "q", "r")
        assert (float(found[0]["q"]), float(found[1]["r"]), float(found[2]["q"])) == (1, 3, 3)
        batcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("threads", [1, 3])
def test_every_picture_is_counted_once(threads: int) -> None:
    async def main() -> None:
        metrics = Metrics()
        batcher, nets = Batcher(threads, 4, metrics), [Net(free=True), Net(free=True)]
        rows = [batcher.submit(nets[k % 3 // 2], square(k), ["p"]) for k in range(50)]
        assert [float(row["p"]) for row in await asyncio.gather(*rows)] == list(range(50))
        value = metrics.registry.get_sample_value
        assert value("resight_batch_size_sum") == value("resight_queue_seconds_count") == 50
        calls = sum(len(net.calls) for net in nets)
        assert value("resight_batch_size_count") == value("resight_compute_seconds_count") == calls
        assert max(len(values) for net in nets for values in net.batches) <= 4
        batcher.close()

    asyncio.run(main())
