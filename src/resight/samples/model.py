"""What pictures and labels there are: ``Sample`` and ``SampleSet``. Plain data, filled by the readers of
each layout.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError, UsageError
from resight.images import MAX_PIXELS, Geometry, check_channels, decode, decode_for, fit, printable, read_bytes
from resight.samples import cells

SPLITS: tuple[str, ...] = ("train", "val", "test")

Kind = Literal["folder", "split-folders", "csv", "idx", "cifar"]
UNLABELLED = ""
"""The one class of a set whose pictures have no labels."""
Task = Literal["single", "multi"]
NO_LABEL = -1
"""``Sample.label`` in a multi-label set: no position, so that it cannot be taken for a class."""
ArrayReader = Callable[[Path], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    ``source`` is the path relative to the root, with ``/``; for array files (idx, CIFAR) the file's name, and
    ``index`` the position in it. ``label`` is the position in the one class list. Samples of one ``group`` (a
    patient, a video) never cross splits. ``labels``, in a multi-label set only: the positions of all its classes,
    ascending, perhaps none; ``label`` is then ``NO_LABEL``.
    """

    source: str
    index: int | None
    label: int
    split: str
    group: str | None = None
    labels: tuple[int, ...] | None = None

    @property
    def each(self) -> tuple[int, ...]:
        """The positions of its classes: the one ``label``, or ``labels``."""
        return (self.label,) if self.labels is None else self.labels

    @property
    def name(self) -> str:
        """The source; ``file[index]`` in an array file."""
        return self.source if self.index is None else f"{self.source}[{self.index}]"


@dataclass(frozen=True)
class SampleSet:
    """All samples of a data set, and how to read them. Immutable, and picklable for spawned loader workers.

    ``classes`` are in natural order, exactly as named on disk. ``channels`` is 1 for idx, 3 for CIFAR, and None where
    it is not known before decoding. ``warnings`` are whole sentences that deserve to be shown. ``dropped`` are samples
    left out by ``without``, with their reasons. ``task``: "single", one class a picture, or "multi", any number of
    classes, none included. ``by_column``: a table says of each class whether a picture has it, so that of others
    nothing is known.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    channels: int | None
    kind: Kind
    warnings: tuple[str, ...] = ()
    dropped: tuple[tuple[Sample, str], ...] = ()
    read_array: ArrayReader | None = field(default=None, repr=False, compare=False)
    task: Task = "single"
    by_column: bool = False
    _arrays: dict[str, NDArray[np.uint8]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_arrays", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _arrays={}, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, split: str) -> list[Sample]:
        """The samples of ``split`` (train, val or test), in the order of the set. Raises ``UsageError`` for
        others.
        """
        if split not in SPLITS:
            raise UsageError(f"the split is {split!r}; expected one of {', '.join(SPLITS)}")
        return [sample for sample in self.samples if sample.split == split]

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """For each of train, val and test: how many pictures each class has, int64 (classes,). Of several labels each
        counts.
        """
        counts = {split: np.zeros(len(self.classes), np.int64) for split in SPLITS}
        for sample in self.samples:
            for label in sample.each:
                counts[sample.split][label] += 1
        return counts

    def targets(self, samples: Sequence[Sample]) -> NDArray[Any]:
        """What is to be answered for N samples of this set: int64 (N,), positions of their classes; of a multi-label
        set uint8 (N, classes), 1 for each class that a picture has.
        """
        if self.task == "single":
            return np.array([sample.label for sample in samples], np.int64)
        found = np.zeros((len(samples), len(self.classes)), np.uint8)
        for row, sample in zip(found, samples, strict=True):
            row[list(sample.each)] = 1
        return found

    def label_text(self, sample: Sample) -> str:
        """The name of its class; in a multi-label set the names, joined by ``|`` as in a table; empty for none."""
        if self.task == "single":
            return self.classes[sample.label]
        return cells.join(self.classes[label] for label in sample.each)

    @property
    def labelled(self) -> bool:
        """Whether anything is known of its pictures."""
        return self.classes != (UNLABELLED,)

    def unlabelled(self) -> SampleSet:
        """The same pictures in the same parts, without their labels: as if nobody had said what they show."""
        bare = tuple(replace(sample, label=0, labels=None) for sample in self.samples)
        slim = replace(self, classes=(UNLABELLED,), samples=bare, task="single", by_column=False)
        slim._arrays.update(self._arrays)
        return slim

    def path(self, sample: Sample) -> Path:
        """The file that ``sample`` is, or is in."""
        return self.root / sample.source

    def read(
        self,
        sample: Sample,
        channels: int = 3,
        *,
        geometry: Geometry | None = None,
        data: bytes | None = None,
        max_pixels: int | None = None,
    ) -> NDArray[np.uint8]:
        """Decode one sample to uint8 (H, W, ``channels``); 1 is grey, 3 RGB, others: ``resight.images.bands``. Safe to
        call from many threads.

        ``geometry``: no larger than it needs, see ``resight.images.decode_for``; perhaps read-only. ``data``: the
        file's content, where it was read already. Raises what ``resight.images.decode`` raises, with the path
        relative to the root as its name. An array file is opened at the first use and then kept.
        """
        if sample.index is None:
            where = self.path(sample) if data is None else data
            if geometry is None:
                return decode(where, channels=channels, max_pixels=max_pixels or MAX_PIXELS, source=sample.source)
            return decode_for(geometry, where, channels=channels, max_pixels=max_pixels, source=sample.source)
        check_channels(channels)
        pixels = self.array(sample.source)[sample.index]
        fitted = fit(pixels, channels, sample.name)
        return pixels.copy() if fitted is pixels else fitted

    def file_bytes(self, sample: Sample) -> bytes:
        """The encoded picture of a sample that is a file of its own. Raises ``ImageError`` as ``read`` does."""
        return read_bytes(self.path(sample), source=sample.source)

    def array(self, source: str) -> NDArray[np.uint8]:
        """The pictures of an array file, uint8 (N, H, W, C). Read once, then shared: do not write to it."""
        if self.read_array is None:
            raise UsageError(f"a data set of kind {self.kind!r} has no array files")
        with self._lock:
            if source not in self._arrays:
                self._arrays[source] = self.read_array(self.root / source)
            return self._arrays[source]

    def fingerprint(self) -> str:
        """sha256 (hexadecimal) over the class list and every sample's source, index, label and split.

        Files of pictures count with their size in bytes, array files with the sha256 of their content: cheap
        on a million pictures, and any picture added, removed, moved, relabelled or re-encoded changes it. A
        picture overwritten by another of exactly the same size does not.
        """
        digest = hashlib.sha256()
        if self.task != "single":
            digest.update(_line("task", self.task))
        for name in self.classes:
            digest.update(_line("class", name))
        arrays: dict[str, str] = {}
        for sample in sorted(self.samples, key=lambda s: (s.source, -1 if s.index is None else s.index)):
            path = self.path(sample)
            if sample.index is None:
                content = str(_size(path, sample.source))
            else:
                if sample.source not in arrays:
                    arrays[sample.source] = _sha256(path)
                content = arrays[sample.source]
            given = ",".join(map(str, sample.each))
            digest.update(_line(sample.source, str(sample.index), given, sample.split, content))
        return digest.hexdigest()

    def without(self, bad: Iterable[tuple[str, str]]) -> SampleSet:
        """A set without the samples of these (source, reason) pairs, which it keeps in ``dropped``.

        Raises ``DataError`` when a source is not in the set, or a class would have no training picture left.
        """
        reasons = dict(bad)
        gone = tuple((sample, reasons[sample.source]) for sample in self.samples if sample.source in reasons)
        unknown = sorted(set(reasons) - {sample.source for sample, _ in gone})
        if unknown:
            raise DataError(f"{len(unknown)} files to drop are not in the data set: {show_names(unknown)}")
        return self.leaving_out([reasons.get(sample.source) for sample in self.samples])

    def leaving_out(self, reasons: Sequence[str | None]) -> SampleSet:
        """A set without the samples that have a reason (one for each sample, None to keep it), kept in ``dropped``.

        Raises ``DataError`` when a class would have no training picture left.
        """
        pairs = list(zip(self.samples, reasons, strict=True))
        gone = tuple((sample, reason) for sample, reason in pairs if reason is not None)
        kept = tuple(sample for sample, reason in pairs if reason is None)
        trained = {label for sample in kept if sample.split == "train" for label in sample.each}
        dropped = {label for sample, _ in gone if sample.split == "train" for label in sample.each}
        lost = [self.classes[label] for label in dropped - trained]
        if lost:
            raise DataError(
                f"without the bad files, these classes have no training picture: {show_names(sorted(lost))}",
                hint="repair or replace the files",
            )
        slim = replace(self, samples=kept, dropped=self.dropped + gone)
        slim._arrays.update(self._arrays)
        return slim


def show_names(names: Iterable[str], limit: int = 5) -> str:
    """The first names, safe for a terminal, and how many more there are."""
    names = list(names)
    shown = ", ".join(printable(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown


def _line(*parts: str) -> bytes:
    """Length-prefixed, so that no hostile name can imitate another line."""
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(len(part).to_bytes(8, "little") + part for part in encoded)


def _size(path: Path, source: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{printable(source)}: the file cannot be read any more ({error.strerror})") from error


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{printable(path.name)}: the file cannot be read any more ({error.strerror})") from error
