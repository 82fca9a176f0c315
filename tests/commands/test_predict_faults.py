"""A fault at every step of a job, and real processes, really killed: not one byte is another."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.commands.jobs import stopped, write_photos, write_straight
from tests.inference import tiny
from typer.testing import CliRunner

from resight.cli import app
from resight.commands.batch import answer_all, check_job, predict_to_file
from resight.commands.predict import prepare
from resight.errors import MissingExtra, StorageError, UsageError
from resight.inference import journal
from resight.runs import Run

MANY = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def straight(run: Run, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_straight(run, photos, tmp_path_factory.mktemp("straight"))


class Crash(BaseException):
    pass


CALLS = ("write", "fsync", "replace", "unlink", "mkdir", "rmdir", "ftruncate")


class Faults:
    """Fails at the n-th call that changes the disk; after a crash at every later one, too: who is dead does nothing."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, error: Callable[[], BaseException], *, dead: bool) -> None:
        self.calls, self.at, self.error, self.dead = 0, at, error, dead
        for name in CALLS:
            patch.setattr(os, name, self.failing(getattr(os, name)))

    def failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.at or (self.dead and self.calls > self.at):
                raise self.error()
            return real(*arguments, **options)

        return call


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def failure(act: Callable[[], None]) -> str:
    """What a fault led to, in words; nothing where there was none, or it was no matter."""
    try:
        act()
    except (StorageError, Crash) as error:
        return str(error) or "crash"
    return ""


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("kind", ["crash", "full"])
def test_a_fault_at_every_step_loses_nothing(
    kind: str, name: str, run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write, flush, rename, unlink, make or remove a folder: each in turn fails, or is the last of a process."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(journal, "SYNC", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # counted, and fails, but need not take its time
    ready = prepare(run, [photos / f"{k}.png" for k in range(8)], threads=1, batch=2)
    format = name.partition(".")[2]
    answer_all(ready, tmp_path / name, format)
    expected = (tmp_path / name).read_bytes()

    def begin_or_resume(out: Path, *, resume: bool) -> None:
        check_job(out, format, resume=resume)
        answer_all(ready, out, format, resume=resume)

    kept_before = 0
    for at in range(1, 1000):
        out = tmp_path / str(at) / name
        out.parent.mkdir()
        with monkeypatch.context() as patch:
            faults = Faults(patch, at, Crash if kind == "crash" else full, dead=kind == "crash")
            said = failure(lambda out=out: begin_or_resume(out, resume=False))
        folder, whole = journal.folder_of(out), out.exists()
        if kind == "full" and said:
            assert "No space left on device" in said
            assert ("continue with: the same call with resume=True" in said) == journal.is_begun(folder)
        assert not whole or out.read_bytes() == expected
        if not whole:  # a fault later loses no more than one that is earlier
            kept = journal.answered(folder) if journal.is_begun(folder) else 0
            assert kept >= kept_before
            kept_before = kept
        if begun := journal.is_begun(folder):
            with pytest.raises(UsageError, match="begun and not finished"):
                begin_or_resume(out, resume=False)
        if begun or not whole:
            begin_or_resume(out, resume=True)
        assert out.read_bytes() == expected
        if folder.exists():  # the last steps left what is no job any more: the next one takes it over
            assert whole
            begin_or_resume(out, resume=False)
        assert os.listdir(out.parent) == [name]
        if faults.calls < at:
            break
    assert at > 30
    assert kept_before == 8


def test_answers_are_on_the_disk_before_they_are_the_file(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What survives power loss: the question before the first answer, all answers before the rename."""
    order: list[str] = []
    for name in ("fsync", "replace", "write", "unlink"):
        real = getattr(os, name)

        def spy(*arguments: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            order.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, spy)
    predict_to_file(run, photos, tmp_path / "out.jsonl", threads=2, batch=4)
    begun, after = order.index("replace"), len(order) - order[::-1].index("write")
    assert order[begun - 1 : begun + 3] == ["fsync", "replace", "fsync", "write"]  # job.json
    assert order[after : after + 5] == ["fsync", "replace", "fsync", "fsync", "unlink"]


def test_a_disk_that_takes_only_a_part_of_a_line(
    run: Run, photos: Path, straight: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, room = tmp_path / "out.jsonl", os.write, [2000]

    def write(descriptor: int, data: Any) -> int:
        taken = min(len(data), room[0], 50)
        if not taken:
            raise full()
        room[0] -= taken
        return real(descriptor, data[:taken])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(StorageError, match=r"No space left .* answers are kept"):
            predict_to_file(run, photos, out, threads=2, batch=4)
    torn = (journal.folder_of(out) / journal.ANSWERS).read_bytes()
    assert len(torn) == 2000
    assert not torn.endswith(b"\n")
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)
    assert out.read_bytes() == straight


# ── real processes ──


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take some milliseconds each, so that there is a middle to be killed in."""
    root = tmp_path_factory.mktemp("many")
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "0.png")
    for k in range(1, MANY):
        (root / f"{k}.png").hardlink_to(root / "0.png")
    return root


def launch(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "resight.cli", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def lines_of(out: Path) -> Iterator[int]:
    """How many answers there are, again and again, for a minute at most."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(FileNotFoundError):
            yield (journal.folder_of(out) / journal.ANSWERS).read_bytes().count(b"\n")
        time.sleep(0.002)
    pytest.fail("the job did not get so far")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_killed_and_terminated_for_real(run: Run, many: Path, tmp_path: Path) -> None:
    command = ["predict", str(run.path), str(many), "--threads", "1", "--out"]
    predict_to_file(run, many, tmp_path / "straight.jsonl", threads=1)

    out = tmp_path / "out.jsonl"
    process = launch(*command, "out.jsonl", cwd=tmp_path)
    next(number for number in lines_of(out) if number >= 40)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    kept = journal.answered(journal.folder_of(out))
    assert 40 <= kept < MANY
    with pytest.raises(UsageError, match=f"{kept} of {MANY} pictures are answered"):
        predict_to_file(run, many, out, threads=1)

    process = launch(*command, "out.jsonl", "--resume", cwd=tmp_path)
    next(number for number in lines_of(out) if number >= kept + 20)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert "Traceback" not in said
    (hint,) = (line for line in said.splitlines() if "continue with: resight " in line)

    words = shlex.split(hint.partition("continue with: resight ")[2])
    process = launch(*words, cwd=tmp_path)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert f"of {MANY} pictures are answered" in said
    assert out.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "straight.jsonl"]


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "pydantic", "accelerate", "pyarrow"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
from resight.commands.batch import predict_to_file
print(predict_to_file(*sys.argv[1:4]).number)
"""


def test_neither_torch_nor_pyarrow_is_imported(run: Run, photos: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, str(run.path), str(photos), str(tmp_path / "out.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("24\n", "")


def test_parquet_without_pyarrow_is_refused_before_the_work(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"resight\[parquet\]"):
        predict_to_file(tmp_path / "no-run", photos, tmp_path / "out.parquet")
    assert os.listdir(tmp_path) == []


# ── the command line ──


def test_what_the_options_mean(run: Run, photos: Path, straight: bytes, tmp_path: Path) -> None:
    def resight(*words: str) -> Any:
        return CliRunner().invoke(app, ["predict", str(run.path), *words])

    for words, said in {
        (str(photos), "--resume"): "there is no --out",
        (str(photos), "--resume", "--out", str(tmp_path / "a.csv")): "this is csv",
        (str(photos), "--format", "parquet"): "name a file",
        (str(photos), "--format", "xml"): "there is no format 'xml'",
    }.items():
        error = resight(*words).exception
        assert isinstance(error, UsageError)
        assert said in str(error)
    out = tmp_path / "out.jsonl"
    done = resight(str(photos), "--out", str(out), "--threads", "2", "--batch", "4")
    assert done.exit_code == 1  # one picture could not be read
    assert "1 of 24 pictures could not be read" in done.stderr
    assert done.stdout == ""
    assert out.read_bytes() == straight
    for ending, begins in ((".csv", '"source"'), (".json", "[\n"), (".txt", str(photos))):
        path = tmp_path / f"out{ending}"
        resight(str(photos), "--out", str(path))
        assert path.read_bytes().decode("utf-8", "surrogateescape").startswith(begins)
    stopped(run, photos, tmp_path / "again.jsonl")
    done = resight(str(photos), "--out", str(tmp_path / "again.jsonl"), "--threads", "2", "--batch", "4", "--resume")
    assert done.exit_code == 1  # though this picture was read before it was stopped
    assert (tmp_path / "again.jsonl").read_bytes() == straight
