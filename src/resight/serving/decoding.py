"""Pictures of strangers become squares in a few threads, before they are queued: a bad one never joins a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from resight.errors import ImageError
from resight.inference import Predictor
from resight.inference.backend import Pixels
from resight.serving.limits import FORMATS, Limits

Result = TypeVar("Result")


class Decoder:
    """As many threads as compute. A picture in full size is held by each of them at most; what nobody waits for any
    more is not begun.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="decode")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Calls ``function`` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def square(self, predictor: Predictor, data: bytes) -> Pixels | ImageError:
        """What the network sees of an encoded picture, uint8 (S, S, C), or why it cannot be used."""

        def decode() -> Pixels | ImageError:
            try:
                return predictor.square(data, max_pixels=self._limits.max_pixels, formats=FORMATS)
            except ImageError as error:
                return error

        return await self.run(decode)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
