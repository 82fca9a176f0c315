"""Decode every picture once, before an hour is spent on them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.images import MAX_PIXELS, ImageInfo, fit, verify
from resight.samples.model import Sample, SampleSet


@dataclass(frozen=True)
class CheckReport:
    """What was found, in the order of the set.

    ``bad``: (source, reason) of pictures that cannot be decoded. ``misnamed``: (source, format) of good ones
    with the extension of another format. ``sizes``: int64 (good pictures, 2), width and height, upright.
    ``content``: uint8 (good pictures, 16), a hash of each file's bytes, or of its pixels in an array file.
    ``channels``: int64 (good pictures,), how many are stored, as ``ImageInfo.channels`` says.
    Names are exact: show them through ``printable``.
    """

    bad: list[tuple[str, str]]
    misnamed: list[tuple[str, str]]
    sizes: NDArray[np.int64]
    content: NDArray[np.uint8]
    channels: NDArray[np.int64]


def check_files(
    samples: SampleSet,
    *,
    threads: int,
    channels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> CheckReport:
    """Decode all pictures of ``samples`` in ``threads`` threads (decoding releases the GIL).

    ``channels``: pictures that cannot be had with so many are bad; None takes any. At most ``threads`` pictures are in
    memory at a time. ``progress(done, total)`` is called in this thread after each. Array files have been checked by
    ``load``: reading them is their check.
    """
    if type(threads) is not int or threads < 1:
        raise UsageError(f"threads is {threads!r}; expected a whole number, 1 or more")
    report: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    sizes, content, stored = [], [], []
    total = len(samples)
    for done, (sample, outcome) in enumerate(_outcomes(samples, threads, channels, max_pixels), start=1):
        if isinstance(outcome, str):
            report[0].append((sample.source, outcome))
        else:
            width, height, number, true_format, digest = outcome
            sizes.append((width, height))
            content.append(digest)
            stored.append(number)
            if true_format:
                report[1].append((sample.source, true_format))
        if progress is not None:
            progress(done, total)
    hashes = np.frombuffer(b"".join(content), np.uint8).reshape(-1, DIGEST)
    return CheckReport(*report, np.array(sizes, np.int64).reshape(-1, 2), hashes, np.array(stored, np.int64))


DIGEST = 16  # bytes of BLAKE2b
Outcome = str | tuple[int, int, int, str, bytes]
"""Why it is bad; or width, height, channels, a misnamed one's true format, the hash."""


def content_hash(data: bytes) -> bytes:
    """Equal for equal bytes only, in 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def _outcomes(
    samples: SampleSet, threads: int, channels: int | None, max_pixels: int
) -> Iterator[tuple[Sample, Outcome]]:
    def look(sample: Sample) -> Outcome:
        if sample.index is not None:
            pixels = samples.array(sample.source)[sample.index]
            try:
                fit(pixels[:1, :1], channels)
            except ImageError as error:
                return error.reason
            height, width, number = pixels.shape
            return width, height, number, "", content_hash(pixels.tobytes())
        try:
            data = samples.file_bytes(sample)
            info: ImageInfo = verify(data, channels=channels, max_pixels=max_pixels, source=sample.source)
        except ImageError as error:
            return error.reason
        true_format = "" if info.extension_matches else info.format
        return info.width, info.height, info.channels, true_format, content_hash(data)

    waiting: deque[tuple[Sample, Future[Outcome]]] = deque()
    queue = iter(samples.samples)
    with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
        try:
            for sample in islice(queue, 4 * threads):
                waiting.append((sample, pool.submit(look, sample)))
            while waiting:
                sample, future = waiting.popleft()
                yield sample, future.result()
                for following in islice(queue, 1):
                    waiting.append((following, pool.submit(look, following)))
        finally:
            for _, future in waiting:  # after an error or Ctrl-C: do not decode the rest first
                future.cancel()
