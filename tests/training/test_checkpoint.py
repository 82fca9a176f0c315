"""Checkpoints survive crashes, full disks and flipped bits: a half one is never chosen, a whole one never lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from resight.errors import RunError, StorageError
from resight.runs import CHECKPOINTS, Run
from resight.training import checkpoint as module
from resight.training.checkpoint import (
    MANIFEST,
    Checkpoint,
    State,
    checkpoint_name,
    found,
    load_checkpoint,
    newest,
    save_checkpoint,
    usable,
)

from .tiny import again, start


class Crash(BaseException):
    """Stands for a killed process or power loss: no handler of ordinary errors sees it."""


def checkpoint(step: int, epochs: int = 0, best_step: int = -1) -> Checkpoint:
    history = [{"epoch": e + 1, "step": step - epochs + e + 1} for e in range(epochs)]
    tensor = torch.full((3, 2), float(step))
    return Checkpoint(
        {"w": tensor},
        {"momentum_buffer/w": tensor + 1},
        {"w": tensor + 2},
        State(step, 8, history=history, best_step=best_step),
    )


def value(saved: Checkpoint) -> float:
    return float(saved.weights["w"][0, 0])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = checkpoint(7, epochs=2, best_step=6)
    saved.state.conditions = {"threads": "2"}
    saved.state.loss_sum = 0.1 + 0.2
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved, keep=1))
    assert loaded.state == saved.state
    for ours, theirs in (
        (saved.weights, loaded.weights),
        (saved.optimizer, loaded.optimizer),
        (saved.average, loaded.average),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# ── faults while saving ────────────────────────────────────────────────────────────────────────────────────────


class Faults:
    """Counts every open for writing, write, fsync, rename and new directory, and fails at one of them."""

    def __init__(self, fail_at: int, error: BaseException) -> None:
        self.fail_at, self.error, self.calls = fail_at, error, 0
        self.dead = False

    def hit(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at or self.dead:
            # A dead process does nothing any more: what comes after a crash fails as well, clean-up included.
            self.dead = isinstance(self.error, Crash)
            raise self.error

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                self.hit()
                return function(*args, **kwargs)

            return call

        faults, open_path = self, Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            stream = open_path(path, mode, *args, **kwargs)
            return Stream(stream, faults) if "w" in mode else stream

        for name in ("replace", "fsync", "rename"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(Path, "mkdir", counted(Path.mkdir))
        patch.setattr(Path, "open", opened)
        patch.setattr(module.shutil, "rmtree", self.rmtree(module.shutil.rmtree))

    def rmtree(self, remove: Callable[..., None]) -> Callable[..., None]:
        def call(path: Path, ignore_errors: bool = False) -> None:
            if self.dead:
                raise self.error
            remove(path, ignore_errors=ignore_errors)

        return call


class Stream:
    """A file whose writes may fail in the middle: half of the bytes are there then."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self.stream, self.faults = stream, faults

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, data: bytes) -> None:
        try:
            self.faults.hit()
        except BaseException:
            self.stream.write(data[: len(data) // 2])
            raise
        self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return int(self.stream.fileno())


def number_of_calls(tmp_path: Path) -> int:
    directory = tmp_path / "count"
    save_checkpoint(directory, checkpoint(1), keep=1)
    faults = Faults(0, Crash())
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        save_checkpoint(directory, checkpoint(2), keep=1)
    return faults.calls


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Crash()], ids=["full", "crash"])
def test_a_fault_at_any_point_of_a_save_loses_nothing(error: BaseException, tmp_path: Path) -> None:
    total = number_of_calls(tmp_path)
    assert total >= 14  # a directory; write and fsync of five files; two directory fsyncs; renames
    reached_new = 0
    for fail_at in range(1, total + 1):
        directory = tmp_path / str(fail_at)
        save_checkpoint(directory, checkpoint(1), keep=1)
        faults = Faults(fail_at, error)
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch)
            with pytest.raises((StorageError, Crash)) as failed:
                save_checkpoint(directory, checkpoint(2), keep=1)
        if isinstance(error, OSError):
            assert "No space left" in str(failed.value)
            assert "bytes needed" in str(failed.value)
            assert "bytes free" in str(failed.value)
            assert not list(directory.glob("*.tmp"))
        # The newest that is whole: the one before, or, from the rename on, the new one. Nothing else is offered.
        outcomes = [loaded for _, loaded in usable(directory)]
        assert all(isinstance(loaded, Checkpoint) for loaded in outcomes)
        assert [value(loaded) for loaded in outcomes] in ([1.0], [2.0, 1.0], [2.0])
        reached_new += value(outcomes[0]) == 2.0
        # The next save works and leaves no rubbish.
        save_checkpoint(directory, checkpoint(3), keep=1)
        assert names(directory) == [checkpoint_name(3, 0)]
    assert 0 < reached_new < total / 2


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives power loss: files, their directory, the rename, the directory above."""
    order: list[str] = []

    def spied(name: str, function: Callable[..., Any], shown: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            order.append(f"{name} {Path(arguments[shown]).name}")
            return function(*arguments)

        return call

    monkeypatch.setattr(module, "write_file", spied("write", module.write_file, 0))
    monkeypatch.setattr(module, "fsync_directory", spied("sync", module.fsync_directory, 0))
    monkeypatch.setattr(module.os, "replace", spied("rename to", os.replace, 1))
    save_checkpoint(tmp_path / CHECKPOINTS, checkpoint(1), keep=1)
    assert order == [
        *(f"write {name}" for name in (*FILES, MANIFEST)),
        "sync step-00000001-e0000.tmp",
        "rename to step-00000001-e0000",
        f"sync {CHECKPOINTS}",
    ]


def test_replacing_a_damaged_checkpoint_keeps_the_one_before_at_every_fault(tmp_path: Path) -> None:
    for fail_at in range(1, 30):
        directory = tmp_path / str(fail_at)
        save_checkpoint(directory, checkpoint(1), keep=2)
        flip(save_checkpoint(directory, checkpoint(2), keep=2) / "weights.safetensors")
        faults = Faults(fail_at, Crash())
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch)
            try:
                save_checkpoint(directory, checkpoint(2), keep=2)
            except Crash:
                assert 1.0 in [value(c) for _, c in usable(directory) if isinstance(c, Checkpoint)]
            else:
                assert [value(c) for _, c in usable(directory)] == [2.0, 1.0]  # type: ignore[arg-type]
                return
    pytest.fail("the faults never ended")


# ── damage, found while loading ────────────────────────────────────────────────────────────────────────────────


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


FILES = ("weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 30, -1])
def test_a_flipped_bit_is_refused_by_name_and_the_one_before_is_used(name: str, position: int, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    path = save_checkpoint(tmp_path, checkpoint(2), keep=2)
    flip(path / name, position)
    (_, refused), (_, used) = usable(tmp_path)
    assert isinstance(refused, RunError)
    assert name in str(refused)
    assert path.name in str(refused)
    assert isinstance(used, Checkpoint)
    assert value(used) == 1.0


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty manifest": lambda path: (path / MANIFEST).write_text("{}"),
    "truncated manifest": lambda path: (path / MANIFEST).write_text('{"weights'),
    "list as manifest": lambda path: (path / MANIFEST).write_text("[]"),
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "no weights": lambda path: (path / "weights.safetensors").unlink(),
    "empty optimizer": lambda path: (path / "optimizer.safetensors").write_bytes(b""),
    "truncated weights": lambda path: os.truncate(path / "weights.safetensors", 20),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(2), keep=1)
    DAMAGES[kind](path)
    with pytest.raises(RunError, match=path.name):
        load_checkpoint(path)


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(patterns: Path, tmp_path: Path) -> None:
    changes = {"save_steps": 2, "keep": 2, "total_steps": 8}
    start(tmp_path / "straight", patterns, changes).fit()
    training = start(tmp_path / "run", patterns, changes)

    def die(done: int) -> None:
        if done == 5:
            raise Crash

    training.report.on_step = die
    with pytest.raises(Crash):
        training.fit()
    directory = tmp_path / "run" / CHECKPOINTS
    assert [path.name for path in found(directory)] == [checkpoint_name(4, 0), checkpoint_name(2, 0)]
    flip(directory / checkpoint_name(4, 0) / "weights.safetensors")
    following = again(tmp_path / "run", patterns, changes)
    assert following.state.step == 2
    said: list[str] = []
    newest(Run.open(tmp_path / "run", sealed=False), said.append)
    assert checkpoint_name(4, 0) in said[0]
    assert checkpoint_name(2, 0) in said[1]


def test_a_run_without_any_whole_checkpoint_says_that_it_starts_again(patterns: Path, tmp_path: Path) -> None:
    start(tmp_path / "run", patterns, {"total_steps": 2}).fit()
    for path in found(tmp_path / "run" / CHECKPOINTS):
        flip(path / "weights.safetensors")
    said: list[str] = []
    assert newest(Run.open(tmp_path / "run", sealed=False), said.append) is None
    assert "from the beginning" in said[-1]


# ── which are kept, and their order ────────────────────────────────────────────────────────────────────────────


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        # The best was validated at step 2 (epoch 2).
        saved = checkpoint(step, epochs=step, best_step=min(step, 2))
        save_checkpoint(tmp_path, saved, keep=2)
        kept = {checkpoint_name(s, s) for s in (min(step, 2), step - 1, step) if s}
        assert set(names(tmp_path)) == kept


def test_order_is_by_step_not_by_clock_or_spelling(tmp_path: Path) -> None:
    steps = [(9, 0), (10, 1), (10, 2), (99_999_999, 9_999), (100_000_000, 10_000)]
    for number, (step, epochs) in enumerate(steps):
        path = tmp_path / checkpoint_name(step, epochs)
        path.mkdir()
        os.utime(path, (2_000_000_000 - number,) * 2)  # the oldest has the youngest date
    assert [path.name for path in found(tmp_path)] == [checkpoint_name(*moment) for moment in reversed(steps)]


def test_what_is_no_checkpoint_is_not_chosen(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=3)
    for name in ("step-00000009-e0000.tmp", "step-00000009-e0000.old", "step-9", "notes"):
        (tmp_path / name).mkdir()
    assert [path.name for path in found(tmp_path)] == [checkpoint_name(1, 0)]
    save_checkpoint(tmp_path, checkpoint(2), keep=3)
    assert names(tmp_path) == ["notes", "step-00000001-e0000", "step-00000002-e0000", "step-9"]


def test_a_damaged_later_checkpoint_does_not_push_out_whole_ones(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    flip(save_checkpoint(tmp_path, checkpoint(9), keep=2) / "weights.safetensors")
    # Training goes on from step 1 and saves more often this time.
    for step in (2, 3):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
        assert isinstance(load_checkpoint(found(tmp_path)[0]), Checkpoint)
    assert names(tmp_path) == [checkpoint_name(2, 0), checkpoint_name(3, 0)]


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "locked"
    directory.mkdir()
    directory.chmod(0o500)
    yield directory
    directory.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_named(read_only: Path) -> None:
    with pytest.raises(StorageError, match="locked"):
        save_checkpoint(read_only / CHECKPOINTS, checkpoint(1), keep=1)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a directory must be")
    with pytest.raises(StorageError, match="taken"):
        save_checkpoint(tmp_path / "taken", checkpoint(1), keep=1)


@pytest.mark.parametrize("name", ["with spaces", "ünïcödé 日本", 'quote\'s "and" [brackets]', "-dash", "new\nline"])
def test_any_name_of_a_directory_works(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    save_checkpoint(directory, checkpoint(1), keep=1)
    (tmp_path / name / "step-00000002-e0000.tmp").mkdir()
    save_checkpoint(directory, checkpoint(3), keep=1)
    assert names(directory) == [checkpoint_name(3, 0)]


def test_state_is_plain_json(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(5), keep=1)
    assert json.loads((path / "state.json").read_bytes())["step"] == 5
    broken = checkpoint(6)
    broken.state.loss_sum = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, broken, keep=1)
    assert names(tmp_path) == [checkpoint_name(5, 0)]
