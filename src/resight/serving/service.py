"""Everything that one server holds, and how a request gets its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.types import Receive

from resight.errors import ImageError
from resight.inference.backend import Pixels
from resight.serving.admission import Admission
from resight.serving.batcher import Batcher, Row
from resight.serving.decoding import Decoder
from resight.serving.limits import Limits
from resight.serving.metrics import Metrics
from resight.serving.models import Loaded, Models
from resight.serving.refusals import ClientGone, Refused

Result = TypeVar("Result")


@dataclass(eq=False)
class Service:
    limits: Limits
    models: Models
    metrics: Metrics
    admission: Admission = field(init=False)
    batcher: Batcher = field(init=False)
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.admission = Admission(self.limits, self.metrics)
        self.batcher = Batcher(self.limits.threads, self.limits.batch, self.metrics)
        self.decoder = Decoder(self.limits)

    @property
    def unready(self) -> str | None:
        """Why the server is not ready, None where it is."""
        if self.admission.draining:
            return "the server is stopping"
        waiting = [f"{slot.name}: {slot.state}" for slot in self.models.slots.values() if slot.loaded is None]
        return ", ".join(waiting) or None

    async def answer(
        self, model: Loaded, pictures: Sequence[bytes | Pixels], outputs: Sequence[str]
    ) -> list[Row | ImageError]:
        """A row of outputs for each picture, encoded or a square, in order; or why it cannot be used."""

        async def one(picture: bytes | Pixels) -> Row | ImageError:
            square = await self.decoder.square(model.predictor, picture) if isinstance(picture, bytes) else picture
            if isinstance(square, ImageError):
                return square
            return await self.batcher.submit(model.predictor, square, outputs)

        rows = await together([one(picture) for picture in pictures])
        self.metrics.pictures.labels(model.name).inc(sum(not isinstance(row, ImageError) for row in rows))
        return rows

    async def in_time(
        self, work: Coroutine[Any, Any, Result], receive: Receive, seconds: float | None = None
    ) -> Result:
        """``work``, dropped when the deadline passes (Refused, 504) or the client is gone (ClientGone)."""
        allowed = min(self.limits.deadline, seconds or self.limits.deadline)
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            done, _ = await asyncio.wait({task, gone}, timeout=allowed, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            if gone in done:
                raise ClientGone
            raise Refused(504, "deadline", f"there was no answer within {allowed:g} s")
        finally:
            await _ended(task, gone)

    def close(self) -> None:
        self.batcher.close()
        self.decoder.close()
        self.models.close()


async def disconnected(receive: Receive) -> None:
    """Returns when the client is gone; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results, in order. The first error is raised, and drops the others; so does cancelling."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _ended(*tasks)


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancels what is not done, and waits for its end: what they raise then has no one to go to."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task
