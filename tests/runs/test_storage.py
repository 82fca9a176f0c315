"""Atomic writes and the lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resight.errors import RunLocked, StorageError
from resight.runs import storage
from resight.runs.storage import exclusive, sha256_of, write_atomic


class Crash(BaseException):
    pass


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Crash()], ids=["full", "crash"])
def test_a_failed_write_leaves_the_old_file(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file with späces"
    write_atomic(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(error))
        with pytest.raises((StorageError, Crash)) as failed:
            write_atomic(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]
    if isinstance(error, OSError):
        for part in (str(path), "No space left on device", "3,000 bytes needed", "bytes free", "--out"):
            assert part in str(failed.value)


def test_a_write_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives power loss: fsync of the file, rename, fsync of the directory."""
    order: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def spy(*arguments: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            order.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, spy)
    write_atomic(tmp_path / "file", b"data")
    assert order == (["fsync", "replace"] if sys.platform == "win32" else ["fsync", "replace", "fsync"])
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_leftover_of_an_earlier_crash_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file.tmp").write_bytes(b"half")
    write_atomic(tmp_path / "file", b"whole")
    assert os.listdir(tmp_path) == ["file"]


def test_errors_of_a_missing_place_name_free_bytes_of_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="bytes free"):
        write_atomic(tmp_path / "no" / "such" / "folder", b"x")


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


HOLDER = """
import sys
from pathlib import Path
from resight.runs.storage import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_is_held_against_other_processes_and_dies_with_them(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunLocked, match="another process"), exclusive(tmp_path):
        pytest.fail("two processes hold one lock")
    holder.kill()
    holder.communicate()
    with exclusive(tmp_path):
        pass
    with exclusive(tmp_path):  # and again after a clean release
        pass


def test_a_lock_in_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError), exclusive(tmp_path / "nowhere"):
        pytest.fail("there is nothing to hold")


def test_the_nearest_existing_folder(tmp_path: Path) -> None:
    assert storage._existing(tmp_path / "a" / "b") == tmp_path.resolve()
    assert storage._existing(tmp_path) == tmp_path
