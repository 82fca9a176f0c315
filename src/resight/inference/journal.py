"""The journal of a long job: what was asked for and every answer so far, beside the file that they are for.

    answers.jsonl.unfinished/
      pictures        names in order, each ended by a zero byte, in the system's own bytes
      answers.jsonl   a line for each answer, appended
      job.json        what was asked for; written last, so that with it the job has begun, and removed first
      .lock           one process at a time

An answer is in the system's hands when ``append`` returns: a process that is killed loses none of these. The power may
fail: every ``SYNC`` seconds what is there is flushed to the disk. What a crash left of the last line is cut off, and so
is everything from the first line on that is not the answer for the picture at its place.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from resight.errors import UsageError
from resight.images import printable
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.storage import fsync_directory, storage_errors, write_atomic, write_file

JOB, PICTURES, ANSWERS, LOCK = "job.json", "pictures", "answers.jsonl", ".lock"
OUTPUT = "output.tmp"
"""The answers in their final form, where that is another one, until they are whole."""
SYNC = 2.0
VERSION = 1
_OWN = (ANSWERS, PICTURES, OUTPUT, JOB + ".tmp")


def folder_of(out: Path) -> Path:
    """Where the journal for this file lies."""
    return out.with_name(out.name + ".unfinished")


def is_begun(folder: Path) -> bool:
    return (folder / JOB).is_file()


def is_worth_keeping(folder: Path) -> bool:
    """Whether the job has begun and has an answer, here or in its place already."""
    answers = folder / ANSWERS
    return is_begun(folder) and (not answers.exists() or answers.stat().st_size > 0)


def make_folder(folder: Path) -> None:
    """Makes the folder where it is missing. Raises UsageError for one that is somebody else's, StorageError."""
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
        fsync_directory(folder.parent)
        others = {path.name for path in folder.iterdir()} - {*_OWN, LOCK}
    if others and not is_begun(folder):
        raise UsageError(
            f"{printable(str(folder))} holds {printable(min(others))}, which is of no unfinished job",
            hint="this folder is needed: move what is in it elsewhere, or write to another file",
        )


def begin(folder: Path, job: Mapping[str, Any], sources: Sequence[Path]) -> None:
    """Writes down what was asked for, and no answer yet. Raises StorageError."""
    with storage_errors(folder):
        write_file(folder / PICTURES, lambda file: file.writelines(_names(sources)))
        write_file(folder / ANSWERS, lambda file: None)
        write_atomic(folder / JOB, json_bytes({"version": VERSION, **job}))


def read_job(folder: Path) -> dict[str, Any]:
    """What was asked for. Raises UsageError where that cannot be told."""
    path = folder / JOB
    try:
        job = read_json(path.read_bytes())
        if job["version"] != VERSION or not isinstance(job["pictures"], int):
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{printable(str(path))} cannot be used: {error}",
            hint=f"start over: remove {printable(str(folder))}",
        ) from error
    return dict(job)


def answered(folder: Path) -> int:
    """How many answers there are, roughly: lines, unchecked."""
    path = folder / ANSWERS
    if not path.exists():
        return 0
    with storage_errors(path), path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def compare(folder: Path, job: Mapping[str, Any], sources: Sequence[Path]) -> list[str]:
    """How what is asked for now differs from what was asked for, in words. Empty: it is the same."""
    before = read_job(folder)
    found = []
    for section in ("run", "options"):
        for name in {**before.get(section, {}), **job[section]}:
            old, new = before.get(section, {}).get(name), job[section].get(name)
            if old != new:
                found.append(f"{name} was {_shown(old)}, is {_shown(new)}")
    if before.get("folder") != job["folder"]:
        found.append(f"the folder was {_shown(before.get('folder'))}, is {_shown(job['folder'])}")
    return found + _other_pictures(folder, sources)


def other_conditions(folder: Path, job: Mapping[str, Any]) -> list[str]:
    """What differs that is no part of the question, but may change the last digit of an answer."""
    before = read_job(folder).get("conditions", {})
    now = job["conditions"]
    return [
        f"{name} was {_shown(before.get(name))}, is {_shown(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _other_pictures(folder: Path, sources: Sequence[Path]) -> list[str]:
    with storage_errors(folder):
        data = (folder / PICTURES).read_bytes()
    if data == b"".join(_names(sources)):
        return []
    before, now = data.split(b"\0")[:-1], [os.fsencode(source) for source in sources]
    gone, new = set(before) - set(now), set(now) - set(before)
    found = []
    for names, all_of, what in ((gone, before, "gone"), (new, now, "new")):
        if names:
            first = printable(os.fsdecode(next(name for name in all_of if name in names)))
            found.append(f"pictures: {len(names):,} {what}, the first is {first}")
    if not found:
        place = next(k for k, (old, other) in enumerate(zip_longest(before, now)) if old != other)
        found.append(f"pictures: the same in another order, from number {place + 1:,} on")
    return found


@dataclass(frozen=True)
class Kept:
    """The answers at the beginning of a file that are whole and in their place: how many, how many of them are errors,
    how many bytes. ``damaged``: what follows them is more than a line that was cut off.
    """

    number: int
    failed: int
    size: int
    damaged: bool


def check_answers(path: Path, sources: Sequence[Path], limit: int | None = None) -> Kept:
    """Reads at most ``limit`` lines and compares each with its picture's name. Raises StorageError."""
    number = failed = size = 0
    damaged = False
    with storage_errors(path), path.open("rb") as lines:
        for source, line in zip(sources[:limit], lines, strict=False):
            error = _error_of(line, str(source))
            if error is _NONE:
                damaged = line.endswith(b"\n")
                break
            number, failed, size = number + 1, failed + (error is not None), size + len(line)
        else:
            damaged = limit is None and path.stat().st_size > size  # more answers than pictures
    return Kept(number, failed, size, damaged)


_NONE = object()  # no answer at all


def _error_of(line: bytes, source: str) -> object:
    """The error that a line says, None where it says an answer, ``_NONE`` where it is not the line of ``source``."""
    try:
        answer = read_json(line) if line.endswith(b"\n") else None
        return answer["error"] if isinstance(answer, dict) and answer["source"] == source else _NONE
    except (ValueError, KeyError):
        return _NONE


class Journal:
    """Open for appending, after the first ``size`` bytes of answers; what follows them is cut off.

    Raises StorageError; what was appended before is then kept.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder / ANSWERS
        with storage_errors(self.path):
            self._file = self.path.open("r+b", buffering=0)
            self._file.truncate(size)
            self._file.seek(size)
        self._synced = time.monotonic()

    def append(self, line: bytes) -> None:
        with storage_errors(self.path):
            left = memoryview(line)
            while left:  # a disk that is nearly full takes a part
                left = left[os.write(self._file.fileno(), left) :]
            if time.monotonic() - self._synced >= SYNC:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Flushes all to the disk."""
        with self._file, storage_errors(self.path):
            os.fsync(self._file.fileno())


def publish(folder: Path, name: str, out: Path) -> None:
    """A file of the folder, whole and on the disk, becomes ``out``. Raises StorageError."""
    with storage_errors(out):
        os.replace(folder / name, out)
        fsync_directory(out.parent)
        fsync_directory(folder)


def remove(folder: Path) -> None:
    """Removes the journal: first what makes it one. Never anything that is not its own. Raises StorageError."""
    with storage_errors(folder):
        (folder / JOB).unlink(missing_ok=True)
        fsync_directory(folder)
        for name in _OWN:
            (folder / name).unlink(missing_ok=True)


def remove_lock(folder: Path) -> None:
    """The last step, when the lock is let go: Windows removes no open file."""
    with suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _names(sources: Sequence[Path]) -> Iterator[bytes]:
    return (os.fsencode(source) + b"\0" for source in sources)


def _shown(value: object) -> str:
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:12]}…"
    return "none" if value is None else printable(str(value))
