"""One pass through the pictures: what doctor knows of each, in some hundred bytes.

Each file is read and decoded once, small (JPEGs at a part of their size), in threads; at most a few hundred small
pictures are in memory at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resight.doctor.hashes import SIDE, WINDOWS, hashes
from resight.errors import ImageError
from resight.images import Geometry, ImageInfo, Shot, decode_small, find_shot, resize, visible
from resight.images.modes import to_grey
from resight.samples import Sample, SampleSet
from resight.samples.check import DIGEST, content_hash

COARSE = 16
SHARP_SIDE = 128
"""Longer side at which sharpness is measured; smaller pictures stay as they are."""

_CHUNK = 256
_DECODE = Geometry("squash", SHARP_SIDE)


@dataclass(frozen=True)
class Scan:
    """What was found of N pictures, in the order of ``samples``. Rows of unreadable ones are zero.

    ``failed``: position → reason. ``shots``: position → camera and time, where EXIF has them. ``sizes``: int32
    (N, 2), width and height, upright. ``formats``, ``modes``: N names, as Pillow's; empty for array files.
    ``turned``: where EXIF says so. ``misnamed``: position → true format. ``content``: uint8 (N, 16), a hash of the
    file's bytes, or of an array file's pixels. ``pixels``: uint8 (N, 16), a hash of the decoded pixels and the size.
    ``light``: mean grey value, 0 … 255. ``contrast``: standard deviation of grey. ``brightest``: grey's 99th
    percentile. ``sharpness``: variance of the Laplacian by the variance of grey. ``hashes``: uint64 (N, WINDOWS).
    ``coarse``: uint8 (N, 256), the picture as 16 × 16 grey.
    """

    samples: SampleSet
    failed: dict[int, str]
    shots: dict[int, Shot]
    misnamed: dict[int, str]
    formats: list[str]
    modes: list[str]
    turned: NDArray[np.bool_]
    sizes: NDArray[np.int32]
    content: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    light: NDArray[np.float32]
    contrast: NDArray[np.float32]
    brightest: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    coarse: NDArray[np.uint8]

    @property
    def good(self) -> NDArray[np.bool_]:
        """bool (N,): could be read."""
        mask = np.ones(len(self.samples), np.bool_)
        mask[list(self.failed)] = False
        return mask


@dataclass(frozen=True, slots=True)
class _Look:
    info: ImageInfo | None
    size: tuple[int, int]
    shot: Shot | None
    content: bytes
    pixels: bytes
    measures: tuple[float, float, float, float]
    small: NDArray[np.uint8]


def scan(samples: SampleSet, *, threads: int, progress: Callable[[int, int], None] | None = None) -> Scan:
    """Look at every picture once. ``progress(done, total)`` is called in this thread, now and then."""
    total = len(samples)
    found = Scan(
        samples, {}, {}, {}, [""] * total, [""] * total, np.zeros(total, np.bool_), np.zeros((total, 2), np.int32),
        np.zeros((total, DIGEST), np.uint8), np.zeros((total, DIGEST), np.uint8), np.zeros(total, np.float32),
        np.zeros(total, np.float32), np.zeros(total, np.float32), np.zeros(total, np.float32),
        np.zeros((total, WINDOWS), np.uint64), np.zeros((total, COARSE**2), np.uint8),
    )  # fmt: skip
    start = 0
    for looks in _looks(samples, threads):
        pictures = np.zeros((len(looks), SIDE, SIDE), np.uint8)
        for offset, look in enumerate(looks):
            if isinstance(look, str):
                found.failed[start + offset] = look
            else:
                pictures[offset] = look.small
                _keep(found, start + offset, look)
        stop = start + len(looks)
        found.hashes[start:stop] = hashes(pictures)
        found.coarse[start:stop] = _coarse(pictures)
        start = stop
        if progress is not None:
            progress(start, total)
    return found


def small_grey(samples: SampleSet, sample: Sample) -> NDArray[np.uint8]:
    """The picture as the scan saw it, grey uint8 (SIDE, SIDE): decoded again. Raises ImageError."""
    return _squeezed(_decoded(samples, sample)[1])


def _keep(found: Scan, position: int, look: _Look) -> None:
    found.sizes[position] = look.size
    found.content[position] = np.frombuffer(look.content, np.uint8)
    found.pixels[position] = np.frombuffer(look.pixels, np.uint8)
    light, contrast, brightest, sharpness = look.measures
    found.light[position], found.contrast[position] = light, contrast
    found.brightest[position], found.sharpness[position] = brightest, sharpness
    if look.shot is not None:
        found.shots[position] = look.shot
    if look.info is not None:
        found.formats[position], found.modes[position] = look.info.format, look.info.mode
        found.turned[position] = look.info.orientation != 1
        if not look.info.extension_matches:
            found.misnamed[position] = look.info.format


def _looks(samples: SampleSet, threads: int) -> Iterator[list[_Look | str]]:
    def look(batch: list[Sample]) -> list[_Look | str]:
        return [_look(samples, sample) for sample in batch]

    queue = iter(samples.samples)
    with ThreadPoolExecutor(threads, thread_name_prefix="doctor") as pool:
        while chunk := list(islice(queue, _CHUNK)):
            parts = [chunk[start : start + 16] for start in range(0, len(chunk), 16)]
            yield [outcome for part in pool.map(look, parts) for outcome in part]


def _look(samples: SampleSet, sample: Sample) -> _Look | str:
    try:
        data, pixels, info, exif = _decoded(samples, sample)
    except ImageError as error:
        return error.reason
    size = (info.width, info.height) if info else (pixels.shape[1], pixels.shape[0])
    shown = content_hash(repr((size, pixels.shape)).encode() + pixels.tobytes())
    content = content_hash(data) if data else shown
    small = _squeezed(pixels)
    return _Look(info, size, find_shot(exif) if exif else None, content, shown, _measures(pixels), small)


def _decoded(samples: SampleSet, sample: Sample) -> tuple[bytes, NDArray[np.uint8], ImageInfo | None, bytes]:
    if sample.index is not None:
        return b"", samples.array(sample.source)[sample.index], None, b""
    data = samples.file_bytes(sample)
    return data, *decode_small(_DECODE, data, source=sample.source)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shown = visible(pixels)
    return to_grey(shown) if shown.shape[2] == 3 else shown


def _squeezed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return resize(_grey(pixels), SIDE, SIDE)[:, :, 0]


def _measures(pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Light, contrast, the brightest and sharpness."""
    height, width = pixels.shape[:2]
    factor = min(1.0, SHARP_SIDE / max(height, width))
    grey = resize(_grey(pixels), max(1, round(height * factor)), max(1, round(width * factor)))[:, :, 0]
    values = grey.astype(np.float32)
    variance = float(values.var())
    middle = values[1:-1, 1:-1]
    edges = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * middle
    sharpness = float(edges.var()) / max(variance, 1.0) if edges.size else 0.0
    return float(values.mean()), variance**0.5, float(np.percentile(grey, 99)), sharpness


def _coarse(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = SIDE // COARSE
    blocks = pictures.reshape(len(pictures), COARSE, step, COARSE, step).mean(axis=(2, 4), dtype=np.float32)
    rows: NDArray[np.uint8] = np.round(blocks).astype(np.uint8).reshape(len(pictures), -1)
    return rows


def chunks(total: int, size: int) -> Iterable[slice]:
    """Slices of at most ``size`` over ``total``."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
