"""One shard of the cache of decoded pictures, as it lies on the disk. See ``picture_cache``."""

from __future__ import annotations

import io
import json
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunLocked, StorageError
from resight.runs.storage import exclusive

Pixels = NDArray[np.uint8]

FORMAT = 1
ABOUT, PIXELS, INDEX = "about.json", "pixels", "index"
RECORD = np.dtype(
    [("key", "V16"), ("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("channels", "<u4"), ("check", "<u4")]
)


class Shard:
    """One folder of pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = np.empty(0, RECORD)
        self.count = 0
        self.length = 0
        self.damaged = False
        self._checked = np.zeros(0, bool)
        self._map: mmap.mmap | None = None
        self._touched = float("-inf")
        self._pixels: io.FileIO | None = None
        self._index: io.FileIO | None = None

    def create(self, stack: ExitStack) -> None:
        """Opens the files for appending, until ``stack`` is closed."""
        self._pixels = stack.enter_context(io.FileIO(self.path / PIXELS, "ab"))
        self._index = stack.enter_context(io.FileIO(self.path / INDEX, "ab"))

    def refresh(self, *, own: bool) -> int:
        """Reads the records that are whole and inside the file; returns how many there are."""
        if not own and not self.damaged:
            with suppress(OSError):
                if (self.path / INDEX).stat().st_size // RECORD.itemsize <= self.count:
                    return self.count
                data = (self.path / INDEX).read_bytes()
                found = np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD)
                self._grow(len(found))
                self.records[self.count : len(found)] = found[self.count :]
                self.count = len(found)
        return self.count

    def _grow(self, count: int) -> None:
        if count > len(self.records):
            more = np.zeros(max(count, 2 * len(self.records), 1024), RECORD)
            more[: self.count] = self.records[: self.count]
            checked = np.zeros(len(more), bool)
            checked[: self.count] = self._checked[: self.count]
            self.records, self._checked = more, checked

    def key(self, record: int) -> bytes:
        return bytes(self.records["key"][record].tobytes())

    def append(self, key: bytes, pixels: Pixels) -> int:
        """Pixels first, then the record: a record never points at what is not there."""
        assert self._pixels is not None
        assert self._index is not None
        shape, offset = pixels.shape, self.length
        try:
            _write(self._pixels, np.ascontiguousarray(pixels).data.cast("B"))
            row = np.array([(np.void(key), offset, *shape, 0)], RECORD)
            row["check"] = _checksum(row[0], pixels)
            self.length += pixels.nbytes
            _write(self._index, memoryview(row.tobytes()))
        except OSError:
            self.length = (self.path / PIXELS).stat().st_size
            raise
        self._grow(self.count + 1)
        self.records[self.count], self._checked[self.count] = row[0], True
        self.count += 1
        return self.count - 1

    def view(self, record: int) -> Pixels | None:
        row = self.records[record]
        shape = int(row["height"]), int(row["width"]), int(row["channels"])
        offset, size = int(row["offset"]), shape[0] * shape[1] * shape[2]
        if self.damaged or not size:
            return None
        held = self._map
        if held is None or offset + size > len(held):
            with (self.path / PIXELS).open("rb") as file:
                held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if offset + size > len(held):
                return None
            self._map = held
        pixels = np.frombuffer(held, np.uint8, size, offset).reshape(shape)
        if not self._checked[record]:
            if _checksum(row, pixels) != row["check"]:
                return None
            self._checked[record] = True
        return pixels

    def touch(self) -> None:
        """Notes that the shard is in use, at most once a minute."""
        if time.monotonic() - self._touched > 60:
            self._touched = time.monotonic()
            with suppress(OSError):
                os.utime(self.path / ABOUT)


def _checksum(row: Any, pixels: Pixels) -> int:
    """CRC-32 over the record (but for its own checksum) and the pixels."""
    return zlib.crc32(np.ascontiguousarray(pixels).data, zlib.crc32(row.tobytes()[: RECORD.itemsize - 4]))


def _write(file: io.FileIO, data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


# ── what lies on the disk ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stored:
    """One shard on the disk. size: bytes. used: seconds since 1970. about: what about.json says, or nothing."""

    path: Path
    size: int
    used: float
    about: dict[str, Any]


def stored(root: Path) -> Iterator[Stored]:
    """All shards below ``root``, whichever preparation they have. What disappears meanwhile is left out."""
    for folder in folders(root):
        for path in folders(folder):
            size = 0
            with suppress(OSError):
                used = path.stat().st_mtime
                with suppress(FileNotFoundError):
                    used = (path / ABOUT).stat().st_mtime
                for name in (ABOUT, PIXELS, INDEX):
                    with suppress(FileNotFoundError):
                        size += (path / name).stat().st_size
                yield Stored(path, size, used, read_about(path) or {})


def read_about(path: Path, expected: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What about.json says; None where it is missing, no JSON, or of another format or preparation."""
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        return None
    if expected is not None and about.get("preparation") != json.loads(json.dumps(expected["preparation"])):
        return None
    return about


def remove(path: Path) -> bool:
    """Removes a shard that no process is writing. Whoever still reads it keeps what it has mapped."""
    try:
        with exclusive(path):
            shutil.rmtree(path, ignore_errors=True)
    except (RunLocked, StorageError):
        return False
    return not path.exists()


def folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
