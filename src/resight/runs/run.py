"""The Run directory: created by training, sealed once, opened by everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resight.errors import RunError, UsageError
from resight.runs.card import RunCard, Status, impossible
from resight.runs.plain_json import read_json
from resight.runs.storage import sha256_of, storage_errors, write_atomic

CARD, CONFIG, SPLIT = "run.json", "config.json", "split.csv"
WEIGHTS, ONNX = "model.safetensors", "model.onnx"
PREDICTIONS, HISTORY, CHECKPOINTS = "predictions.npz", "metrics.jsonl", "checkpoints"
REFERENCE, REPORT, ADVICE = "reference.safetensors", "report.html", "advice.json"
SEALED_FILES = (CONFIG, SPLIT, WEIGHTS, ONNX, REFERENCE, PREDICTIONS, HISTORY, REPORT, ADVICE)


class Run:
    """An opened Run. ``run.card`` is what it is, ``run.path`` where it lies."""

    def __init__(self, path: Path, card: RunCard) -> None:
        self.path = path
        self.card = card

    @classmethod
    def create(cls, path: Path, card: RunCard) -> Run:
        """Makes a new Run directory. Raises UsageError when it is taken, RunError for an impossible card."""
        check_free(path)
        if wrong := impossible(card):
            raise RunError(f"a Run cannot have these values: {', '.join(wrong)}")
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, card)
        write_atomic(path / CARD, card.to_json())
        return run

    @classmethod
    def open(cls, path: Path | str, *, sealed: bool = True, verify: bool = True) -> Run:
        """Opens a Run. With ``sealed`` only a finished one; with ``verify`` only if every file is unchanged.

        Without ``verify`` no file but the card is read: get the content of others from ``run.read``, which checks
        it. (A Predictor checks ``model.onnx`` itself, from the bytes that it loads.)

        Raises RunError when there is none, it is not finished, its card is not sound, or a file is missing or
        differs from its hash.
        """
        path = Path(path)
        try:
            data = (path / CARD).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{path} is not a Run: it has no {CARD}",
                hint="a Run is the directory that 'resight train' or 'resight import' made",
            ) from error
        except OSError as error:
            raise RunError(f"{path / CARD} cannot be read: {error.strerror}", hint="check the permissions") from error
        run = cls(path, RunCard.from_json(data, path / CARD))
        if sealed and run.card.status != "sealed":
            raise RunError(
                f"{path} is not finished: its status is '{run.card.status}'",
                hint=f"finish it with: resight resume {path}",
            )
        if run.card.status == "sealed":
            run.check_hashes()
            if verify:
                run.verify()
        return run

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.card.classes

    @property
    def metrics(self) -> Metrics:
        """The headline numbers on the test part, or on validation where there is no test part."""
        part = "test" if "test" in self.card.metrics else "val"
        return Metrics(part, self.card.metrics.get(part, {}))

    def file(self, name: str) -> Path:
        """The path of one of the Run's files. Raises RunError when it is missing."""
        path = self.path / name
        if not path.is_file():
            raise RunError(f"{self.path} has no {name}", hint="restore the Run from a copy, or train it again")
        return path

    def records(self, name: str) -> bool:
        """Whether the file is one of the Run's: of a sealed Run, those whose hash the card has; else, what is there."""
        return name in self.card.files if self.card.status == "sealed" else (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """The content of one of the Run's files: of a sealed Run, the very bytes that were hashed and are unchanged.

        Raises RunError when it is missing, cannot be read or was changed, and for a file of which the sealed Run's
        card has no hash: somebody else put it there.
        """
        path = self.file(name)
        if not self.records(name):
            raise self._unrecorded(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}", hint="check the permissions") from error
        if self.card.status == "sealed":
            self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def read_json(self, name: str) -> Any:
        """What one of the Run's files of JSON says. Raises RunError as ``read`` does, and for what is no JSON."""
        try:
            return read_json(self.read(name))
        except ValueError as error:
            raise RunError(
                f"{self.path / name} is not valid JSON: {error}", hint="restore the file from a copy, or train again"
            ) from error

    def update(self, **changes: Any) -> None:
        """Replaces fields of the card, atomically. Raises RunError for a sealed Run: those never change."""
        if self.card.status == "sealed":
            raise RunError(f"{self.path} is sealed and cannot be changed")
        self.card = replace(self.card, **changes)
        write_atomic(self.path / CARD, self.card.to_json())

    def set_status(self, status: Status) -> None:
        self.update(status=status)

    def seal(self) -> None:
        """Hashes every file and marks the Run as finished; nothing in it changes from here on."""
        hashes = {n: sha256_of(self.path / n) for n in SEALED_FILES if (self.path / n).is_file()}
        for needed in (WEIGHTS, ONNX):
            if needed not in hashes:
                raise RunError(f"{self.path} cannot be sealed without {needed}")
        self.update(files=hashes, status="sealed")

    def check_hashes(self) -> None:
        """Raises RunError when the sealed Run's card lacks a hash or names a file elsewhere. Reads no other file."""
        for needed in (WEIGHTS, ONNX):
            if needed not in self.card.files:
                raise RunError(f"{self.path / CARD} is sealed but records no hash of {needed}")
        for name in self.card.files:
            if Path(name).name != name:
                raise RunError(f"{self.path / CARD} names a file outside the Run: {name!r}")

    def verify(self, *names: str) -> None:
        """Raises RunError when a file of the sealed Run is missing or its content changed: any, or of ``names``; and
        for a name of which the card has no hash.

        Says nothing of what is read afterwards: for that there is ``read``.
        """
        self.check_hashes()
        for name in names or self.card.files:
            if name not in self.card.files:
                raise self._unrecorded(name)
            self._check(name, sha256_of(self.file(name)))

    def _check(self, name: str, found: str) -> None:
        expected = self.card.files[name]
        if found != expected:
            raise RunError(
                f"{self.path / name} was changed after the Run was sealed "
                f"(sha256 {found[:12]}…, expected {expected[:12]}…)",
                hint="restore the file from a copy, or train again",
            )

    def _unrecorded(self, name: str) -> RunError:
        return RunError(
            f"{self.path / CARD} records no hash of {name}, so it is not used", hint="a sealed Run gets no new files"
        )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.card.architecture.name}, {self.card.status})"


def check_free(path: Path) -> None:
    """Raises UsageError unless a new Run may be made at ``path``: nothing is there, or an empty folder."""
    if (path / CARD).exists():
        raise UsageError(
            f"{path} already holds a Run",
            hint=f"continue it with: resight resume {path}    or choose another --out",
        )
    if path.exists() and (not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise UsageError(f"{path} {what}: a Run would mix with what is there", hint="choose another --out")


class Metrics:
    """Attribute access to the estimates of one part: ``metrics.top1`` is the accuracy in [0, 1]."""

    def __init__(self, part: str, evaluation: Mapping[str, Any]) -> None:
        self.part = part
        self._estimates: Mapping[str, Any] = evaluation.get("metrics", {})

    @property
    def top1(self) -> float:
        return self["accuracy"]

    def __getitem__(self, name: str) -> float:
        """The value of a metric by name. Raises RunError when the Run has none (imported weights)."""
        if name not in self._estimates:
            raise RunError(f"this Run has no '{name}' for its {self.part} part")
        return float(self._estimates[name]["value"])

    def interval(self, name: str) -> tuple[float, float]:
        """The 95 % interval of a metric."""
        self[name]
        return float(self._estimates[name]["low"]), float(self._estimates[name]["high"])
