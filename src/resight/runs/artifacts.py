"""What was exported from a Run: ``artifacts/NAME/`` beside its sealed files, each with a card of its own.

A Run never changes; its artefacts come and go. An artefact counts only with ``card.json``, which records the SHA-256 of
each of its files and of the Run's ``model.onnx`` that it was made from: that of another Run is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from resight.errors import RunError, UsageError
from resight.images import printable
from resight.runs.artifact_card import AGAIN, ArtifactCard, read_card
from resight.runs.card import RunCard, impossible
from resight.runs.run import ONNX, Run
from resight.runs.storage import exclusive, fsync_directory, fsync_file, sha256_of, storage_errors, write_atomic

ARTIFACTS, ARTIFACT_CARD = "artifacts", "card.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREVIOUS, _DRAFT, _LOCK = ".previous-", ".draft-", ".lock-"


@dataclass(frozen=True)
class Artifact:
    """One that was exported: where it lies, its card, and the Run's card with what the artefact has of its own."""

    path: Path
    card: ArtifactCard
    run_card: RunCard

    @property
    def graph(self) -> Path:
        return self.path / self.card.graph

    @property
    def sha256(self) -> str:
        """What the graph must hash to."""
        return self.card.files[self.card.graph]

    @property
    def weights(self) -> str | None:
        """What the file of numbers beside an ``.xml`` must hash to; None for a graph of one file."""
        name = Path(self.card.graph)
        return self.card.files.get(name.with_suffix(".bin").as_posix(), "") if name.suffix == ".xml" else None

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum((self.path / name).stat().st_size for name in self.card.files)

    def verify(self) -> None:
        """Raises RunError where a file is missing or was changed."""
        for name, expected in self.card.files.items():
            place = self.path / name
            if not place.is_file() or sha256_of(place) != expected:
                raise RunError(f"{printable(str(place))} is missing or was changed after it was exported", hint=AGAIN)


def artifact_names(run: Run) -> list[str]:
    """Of the artefacts that the Run has, in order. Those without a card are none."""
    folder = run.path / ARTIFACTS
    if not folder.is_dir():
        return []
    names = {path.name.removeprefix(_PREVIOUS) for path in folder.iterdir()}
    return sorted(name for name in names if _NAME.fullmatch(name) and _place(run, name) is not None)


def open_artifact(run: Run, name: str) -> Artifact:
    """The artefact of this name; of its files only the card is read.

    Raises UsageError for a name that the Run has not, RunError for a card that is damaged or of another Run.
    """
    path = _place(run, name) if _NAME.fullmatch(name) else None
    if path is None:
        there = ", ".join(artifact_names(run)) or "none"
        raise UsageError(
            f"{run.path} has no artefact {printable(name)!r}; it has: {there}",
            hint="make one: resight export RUN --to …",
        )
    found = _opened(run, path)
    if found.card.name != name:
        raise RunError(f"{path} is the artefact {printable(found.card.name)!r} under another name", hint=AGAIN)
    return found


def _opened(run: Run, path: Path) -> Artifact:
    """Raises RunError for a card that is damaged, of another Run, or says what cannot be."""
    card = read_card(path / ARTIFACT_CARD)
    if card.made_from != run.card.files.get(ONNX):
        raise RunError(f"{path} was exported from another Run than {run.path}", hint=AGAIN)
    if other := _differing(run.card, card):
        raise RunError(f"{path / ARTIFACT_CARD} differs from the Run in: {', '.join(other)}", hint=AGAIN)
    run_card = replace(
        run.card,
        temperature=card.temperature,
        thresholds=card.thresholds,
        unknown=card.unknown,
        parity=card.parity,
        metrics=card.metrics,
    )
    if wrong := impossible(run_card):
        raise RunError(f"{path / ARTIFACT_CARD} has an impossible value in: {', '.join(wrong)}", hint=AGAIN)
    if card.graph not in card.files or any(not _inside(name) for name in card.files):
        raise RunError(f"{path / ARTIFACT_CARD} names files that an artefact cannot have", hint=AGAIN)
    if any(not _SHA256.fullmatch(value) for value in card.files.values()):
        raise RunError(f"{path / ARTIFACT_CARD} has a SHA-256 that is none", hint=AGAIN)
    return Artifact(path, card, run_card)


def _differing(run: RunCard, card: ArtifactCard) -> list[str]:
    """What an artefact must have from its Run and has otherwise."""
    return [
        name
        for name in ("classes", "channels", "geometry", "mean", "std", "task")
        if getattr(card, name) != (run.geometry.to_dict() if name == "geometry" else getattr(run, name))
    ]


@contextmanager
def drafted(run: Run, name: str) -> Iterator[Path]:
    """An empty folder to export into, beside the artefacts; gone afterwards, unless ``publish`` moved it.

    One at a time for each name: the system lets go of its lock when the process dies, however it dies, and what such
    a process left is removed by the next one.

    Raises UsageError for a name that is not of small letters, digits, ``.``, ``_`` and ``-``, and for what is in the
    way; RunLocked at once while another process exports under this name; StorageError.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"an artefact cannot be named {printable(name)!r}", hint="use small letters, digits, . _ and -"
        )
    folder = run.path / ARTIFACTS
    draft, lock = folder / f"{_DRAFT}{name}", folder / f"{_LOCK}{name}"
    _check_free(lock.is_symlink(), lock)
    for place in (folder, folder / name, _previous(run, name), draft):
        _check_free(place.is_symlink() or (place.exists() and not place.is_dir()), place)
    place = folder / name  # of the previous one a kill may have left a part: its name is ours alone
    _check_free(place.is_dir() and not (place / ARTIFACT_CARD).is_file(), place)
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    with exclusive(folder, f"exporting {name}", lock=lock.name, hint="wait for it, or stop it"):
        with storage_errors(draft):
            if draft.exists():
                shutil.rmtree(draft)
            draft.mkdir(0o700)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _check_free(taken: bool, place: Path) -> None:
    if taken:
        raise UsageError(
            f"{printable(str(place))} is in the way: it is no artefact, and would be lost", hint="move it elsewhere"
        )


def finished(run: Run, draft: Path, card: ArtifactCard) -> Artifact:
    """Hashes the files of a draft, waits until they are on the disk, writes its card beside them and opens it there,
    to be tried. Raises StorageError.
    """
    paths = [p for p in sorted(draft.rglob("*")) if p.is_file() and p != draft / ARTIFACT_CARD]
    files = {p.relative_to(draft).as_posix(): sha256_of(p) for p in paths}
    with storage_errors(draft):
        for path in paths:
            fsync_file(path)
        for folder in {path.parent for path in paths}:
            fsync_directory(folder)
    write_atomic(draft / ARTIFACT_CARD, replace(card, files=files).to_json())
    return _opened(run, draft)


def publish(run: Run, draft: Path, card: ArtifactCard) -> Artifact:
    """Finishes a draft and puts it into its place; one of the same name is replaced.

    A crash at any moment leaves the earlier artefact or the new one. Raises StorageError.
    """
    finished(run, draft, card)
    place, previous = run.path / ARTIFACTS / card.name, _previous(run, card.name)
    with storage_errors(place):
        draft.chmod(0o755)
        if place.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.replace(place, previous)
        os.replace(draft, place)
        fsync_directory(place.parent)
        shutil.rmtree(previous, ignore_errors=True)
    return open_artifact(run, card.name)


def _place(run: Run, name: str) -> Path | None:
    """Where the artefact lies; the previous one where a crash came between its removal and the new one."""
    places = (run.path / ARTIFACTS / name, _previous(run, name))
    return next((place for place in places if (place / ARTIFACT_CARD).is_file()), None)


def _previous(run: Run, name: str) -> Path:
    return run.path / ARTIFACTS / f"{_PREVIOUS}{name}"


def _inside(name: str) -> bool:
    """Whether a file's name stays below the artefact's folder."""
    path = Path(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
