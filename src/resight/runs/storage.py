"""Writing so that a crash, a full disk or a second process never leaves half a file behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resight.errors import RunLocked, StorageError

CACHE_TAG = "CACHEDIR.TAG"
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"  # of https://bford.info/cachedir/


def cache_directory(kind: str) -> Path:
    """Where what can be made or fetched again is kept: ``$RESIGHT_CACHE/kind`` or ``~/.cache/resight/kind``.

    The kinds are ``weights``, ``data``, ``runs``, ``bench`` and ``pictures``. Whoever writes there makes it with
    ``make_cache`` first.
    """
    return Path(os.environ.get("RESIGHT_CACHE") or "~/.cache/resight").expanduser() / kind


def make_cache(folder: Path, mode: int = 0o777) -> Path:
    """Makes a folder of the cache where it is missing, with a ``CACHEDIR.TAG`` that says what it is; returns it.

    Only what has the tag is ever cleared. A folder that has something in it is left as it is: it may be somebody's own.
    Raises StorageError.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
        if not any(folder.iterdir()):
            about = b"# What lies here can be made or fetched again. Remove it with: resight cache --clear\n"
            (folder / CACHE_TAG).write_bytes(_SIGNATURE + b"\n" + about)
    return folder


def is_cache(folder: Path) -> bool:
    """Whether ``make_cache`` made this folder: it is no link, and has the tag."""
    tag = folder / CACHE_TAG
    if folder.is_symlink() or tag.is_symlink() or not tag.is_file():
        return False
    with storage_errors(tag), tag.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_directory(path: Path) -> None:
    """Makes a rename inside ``path`` survive power loss. Windows has no such call; NTFS journals renames."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Returns when what was written to ``path`` by somebody else is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Creates ``path`` with what ``write`` puts into it, and returns only when it is on the disk."""
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data``, or leaves it exactly as it was.

    Raises StorageError when the disk is full or the place is not writable; the temporary file is gone then.
    """
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path, needed=len(data)):
        try:
            write_file(temporary, lambda file: file.write(data))
            os.replace(temporary, path)
            fsync_directory(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def storage_errors(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turns an OSError inside into a StorageError that names the path, the needed and the free bytes."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        amount = f", {needed:,} bytes needed" if needed is not None else ""
        try:
            free = f", {shutil.disk_usage(_existing(path)).free:,} bytes free"
        except OSError:
            free = ""
        raise StorageError(
            f"cannot write {path}: {reason}{amount}{free}",
            hint="free some space or choose another place with --out; what was saved before is untouched",
        ) from error


def _existing(path: Path) -> Path:
    """The nearest folder above ``path`` that exists."""
    return path if path.is_dir() else next(p for p in path.resolve().parents if p.is_dir())


@contextmanager
def exclusive(
    directory: Path,
    doing: str = "training",
    *,
    lock: str = ".lock",
    hint: str = "wait for it, stop it, or choose another directory with --out",
) -> Iterator[None]:
    """Holds ``directory/lock`` while inside. The system lets go of it when the process dies, however it dies.

    Raises RunLocked at once when another process holds it, which says what the other one is ``doing``, and ``hint``.
    """
    with storage_errors(directory):
        file = (directory / lock).open("a+b")
    with file:
        try:
            _lock(file)
        except OSError as error:
            raise RunLocked(f"{directory} is in use: another process is {doing} there", hint=hint) from error
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
