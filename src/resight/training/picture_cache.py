"""Decoded pictures on the disk: shared between a user's trainings, bounded, safe against crashes.

    $RESIGHT_CACHE/pictures/PREPARATION/SHARD/
      about.json   what was done to the pictures and which data they came from; its time is that of the last use
      pixels       uint8, one picture behind the other, only ever appended to
      index        one record for each picture: content, place, shape, checksum

A picture is known by a hash of its file's bytes, wherever the file lies, and by the preparation (geometry, channels,
versions). Every process that decodes writes a shard of its own and reads all shards of its preparation. Pixels are
written before their record; a record counts only with its checksum, which is compared when a process first uses it.
So what a killed process or a broken disk leaves behind is never taken for a picture. Nothing is unpickled.

A checksum is no signature: folders are closed to other users, and what others own or may write to is not read. Writers
hold a lock on their shard, readers none: another process may remove a shard that is being read. Who has opened it reads
on, and its room on the disk is free when that process ends; who has not decodes the pictures again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import StorageError
from resight.runs.storage import exclusive, make_cache
from resight.training.shard import (
    FORMAT,
    RECORD,
    Damaged,
    Fits,
    Pixels,
    Shard,
    check_own,
    read_about,
    remove,
    shards,
    stored,
    write_about,
)

Place = tuple[int, int]
"""(shard, record): where a picture lies, for as long as the cache is open."""

KIND = "pictures"
_STEP = 64 * 2**20  # room is asked for in pieces of this size
_SHARD = 2**30
_SPARE = 2**30  # always left free on the disk
_REFRESH = 2.0  # seconds between looks at what others have written, at least


def content_key(data: bytes) -> bytes:
    """16 bytes that stand for the content of a file."""
    return hashlib.blake2b(data, digest_size=16).digest()


class PictureCache:
    """The pictures of one preparation. Safe to use from many threads, and beside other processes.

    root: the folder of all preparations. preparation: plain values, everything that the pixels depend on besides the
    file's bytes. data: where the pictures come from, for ``resight cache``. limit: bytes for everything below
    ``root``; what was not used for longest makes room. say: told once of each kind of trouble; the cache then serves
    what it has and stores nothing more. fits: which sizes pictures of the preparation can have.
    """

    def __init__(
        self,
        root: Path,
        preparation: Mapping[str, Any],
        *,
        data: str,
        limit: int,
        say: Callable[[str], None],
        fits: Fits = lambda height, width, channels: np.ones(len(height), bool),
    ) -> None:
        self.root, self.limit = root, limit
        self._about = {"format": FORMAT, "preparation": dict(preparation), "data": data, "limit": limit}
        digest = hashlib.sha256(json.dumps(dict(preparation), sort_keys=True).encode()).hexdigest()[:16]
        self.folder = root / digest
        self._tell, self._fits = say, fits
        self._said: set[str] = set()
        self._lock = threading.RLock()
        self._shards: list[Shard] = []
        self._names: dict[str, int] = {}
        self._own = -1
        self._room = 0
        self._writes = True
        self._next_look = float("-inf")
        self._heads = np.empty(0, np.uint64)
        self._places = np.empty((0, 2), np.int32)
        self._open = ExitStack()
        weakref.finalize(self, self._open.close)

    def find(self, key: bytes) -> Place | None:
        """Where the picture of this content lies, or None."""
        with self._lock:
            place = self._search(key)
            if place is None and time.monotonic() >= self._next_look:
                start = time.monotonic()
                self._look()
                now = time.monotonic()
                self._next_look = now + max(_REFRESH, 20 * (now - start))  # rarely enough to cost next to nothing
                place = self._search(key)
            return place

    def view(self, place: Place) -> Pixels | None:
        """A copy of the picture there: uint8 (H, W, C), read-only. None where it cannot be had any more."""
        shard = self._shards[place[0]]
        if shard.lost:
            return None
        try:
            pixels = shard.view(place[1])
        except (OSError, Damaged) as error:
            with self._lock:
                self._lose(place[0], error)
            return None
        shard.touch()
        return pixels

    def put(self, key: bytes, pixels: Pixels) -> Place | None:
        """Stores a picture; None where there is no room or the disk refuses, which is said once."""
        with self._lock:
            if not self._writes:
                return None
            try:
                if not self._reserve(pixels.nbytes + RECORD.itemsize):
                    return None
                return self._own, self._shards[self._own].append(key, pixels)
            except (OSError, StorageError) as error:
                reason = getattr(error, "strerror", None) or error
                self._stop(f"decoded pictures cannot be kept in {self.folder} ({reason})")
                return None

    def close(self) -> None:
        """Lets other processes remove what this one wrote. Views stay valid."""
        with self._lock:
            self._open.close()
            self._own = -1

    def say(self, text: str) -> None:
        """Says each thing once."""
        if text not in self._said:
            self._said.add(text)
            self._tell(text)

    # ── finding ────────────────────────────────────────────────────────────────────────────────────────────────

    def _search(self, key: bytes) -> Place | None:
        head = np.frombuffer(key, np.uint64, 1)[0]
        at = int(np.searchsorted(self._heads, head))
        while at < len(self._heads) and self._heads[at] == head:
            shard, record = (int(value) for value in self._places[at])
            if not self._shards[shard].lost and self._shards[shard].key(record) == key:
                self._shards[shard].touch()
                return shard, record
            at += 1
        return None

    def _look(self) -> None:
        """Reads the records of all shards, new ones included."""
        for path in sorted(shards(self.folder)):
            if path.name not in self._names and self._readable(path):
                self._names[path.name] = len(self._shards)
                self._shards.append(Shard(path, self._fits))
        heads, places = [np.empty(0, np.uint64)], [np.empty((0, 2), np.int32)]
        for number, shard in enumerate(self._shards):
            try:
                count = shard.refresh(own=number == self._own)
            except (OSError, Damaged) as error:
                self._lose(number, error)
                continue
            heads.append(np.ascontiguousarray(shard.records["key"][:count]).view(np.uint64)[::2])
            places.append(np.stack([np.full(count, number, np.int32), np.arange(count, dtype=np.int32)], axis=1))
        together, where = np.concatenate(heads), np.concatenate(places)
        order = np.argsort(together, kind="stable")
        self._heads, self._places = together[order], where[order]

    def _readable(self, path: Path) -> bool:
        """Whether a new folder is a shard of this preparation, and this user's alone."""
        try:
            check_own(path)
            return read_about(path, self._about) is not None
        except FileNotFoundError:  # removed, or still being made
            return False
        except OSError as error:
            self.say(f"note: decoded pictures in {path} are not read ({error.strerror or error})")
            return False

    def _lose(self, number: int, error: Exception) -> None:
        """Reads nothing more from a shard, and removes it if it is damaged. One that was removed is no trouble."""
        shard = self._shards[number]
        if shard.lost:
            return
        shard.lost = True
        if isinstance(error, Damaged):
            what = "removed" if remove(shard.path) else "not read any more"
            self.say(f"{shard.path} is damaged: {what}; its pictures are decoded again")
        elif not isinstance(error, FileNotFoundError):
            reason = getattr(error, "strerror", None) or error
            self.say(f"note: {shard.path} cannot be read ({reason}): its pictures are decoded again")
        self._own = -1 if number == self._own else self._own

    # ── room ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _reserve(self, needed: int) -> bool:
        """Whether there is room for so many bytes, after removing what was not used for longest."""
        step = max(needed, min(_STEP, self.limit // 8))
        if self._room < needed:
            total = sum(shard.size for shard in stored(self.root))
            for shard in sorted(stored(self.root), key=lambda shard: shard.used):
                if total + step <= self.limit:
                    break
                if shard.path.name not in self._names and remove(shard.path):
                    total -= shard.size
            if total + step > self.limit:
                self._stop(f"the cache of decoded pictures is full ({self.limit / 2**30:.3g} GiB, data.disk_cache_gb)")
                return False
            if (
                shutil.disk_usage(next(p for p in (self.root, *self.root.resolve().parents) if p.is_dir())).free
                < step + _SPARE
            ):
                self._stop(f"less than {_SPARE / 2**30:.0f} GiB are free in {self.root}")
                return False
            self._room = step
        self._room -= needed
        if self._own < 0 or self._shards[self._own].length + needed > _SHARD:
            self._new_shard()
        return True

    def _new_shard(self) -> None:
        path = self.folder / f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        check_own(make_cache(self.root, 0o700))
        self.folder.mkdir(mode=0o700, exist_ok=True)
        check_own(self.folder)
        path.mkdir(mode=0o700)
        self._open.enter_context(exclusive(path))  # until the cache is closed or this process ends, however it ends
        write_about(path, self._about)
        self._own = self._names[path.name] = len(self._shards)
        self._shards.append(Shard(path, self._fits))
        self._shards[self._own].create(self._open)

    def _stop(self, reason: str) -> None:
        self._writes = False
        self.say(f"note: {reason}; further ones are kept in memory while they fit")
