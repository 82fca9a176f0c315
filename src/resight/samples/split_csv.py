"""split.csv: which picture was train, val or test, and its label. Written with a Run; read to split the same
way again.

Columns: source, index, label (the class's name), split, group. Pictures that were left out as bad have the
split "skipped". Any name survives exactly, quotes, newlines and undecodable bytes included. Of a multi-label set the
third column is ``labels``, names as in :mod:`resight.samples.cells`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from resight.errors import DataError, StorageError
from resight.images import printable
from resight.samples.model import SPLITS, SampleSet, Task, show_names

COLUMNS = ("source", "index", "label", "split", "group")
MULTI_COLUMNS = ("source", "index", "labels", "split", "group")
SKIPPED = "skipped"
Key = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One line. ``split`` is train, val, test or skipped. ``label``: with the task "multi", names in one cell."""

    source: str
    index: int | None
    label: str
    split: str
    group: str | None
    task: Task = "single"


def write(path: Path, samples: SampleSet) -> None:
    """Write ``samples``, and what was dropped from them, to ``path``. Raises ``StorageError``."""
    kept = [(sample, sample.split) for sample in samples.samples]
    dropped = [(sample, SKIPPED) for sample, _ in samples.dropped]
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow(COLUMNS if samples.task == "single" else MULTI_COLUMNS)
            for sample, split in kept + dropped:
                index = "" if sample.index is None else str(sample.index)
                writer.writerow([sample.source, index, samples.label_text(sample), split, sample.group or ""])
    except OSError as error:
        raise StorageError(f"{printable(str(path))}: cannot be written ({error.strerror})") from error


def read(path: Path, data: bytes | None = None) -> dict[Key, SplitRow]:
    """Read a split.csv: (source, index) → its line. Raises ``DataError`` for anything that is not one.

    data: its content, where that was read already; ``path`` is then only a name.
    """
    shown = printable(str(path))
    try:
        content = io.BytesIO(path.read_bytes() if data is None else data)
        with io.TextIOWrapper(content, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = tuple(next(reader, ()))
            if header not in (COLUMNS, MULTI_COLUMNS):
                raise DataError(f"{shown}: the header is {printable(','.join(header))!r}; expected {','.join(COLUMNS)}")
            rows: dict[Key, SplitRow] = {}
            for values in reader:
                row = _parse(values, "single" if header == COLUMNS else "multi", f"{shown}, line {reader.line_num}")
                if (row.source, row.index) in rows:
                    raise DataError(f"{shown}, line {reader.line_num}: {printable(row.source)} is there twice")
                rows[row.source, row.index] = row
            return rows
    except csv.Error as error:
        raise DataError(f"{shown}: this is not valid CSV ({error})") from error
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror})") from error


def _parse(values: list[str], task: Task, where: str) -> SplitRow:
    if len(values) != len(COLUMNS):
        raise DataError(f"{where}: found {len(values)} fields; expected {len(COLUMNS)}")
    source, index, label, split, group = values
    if split not in (*SPLITS, SKIPPED):
        raise DataError(f"{where}: the split is {printable(split)!r}; expected train, val, test or skipped")
    if index and not (index.isascii() and index.isdigit()):
        raise DataError(f"{where}: the index is {printable(index)!r}; expected a whole number or nothing")
    return SplitRow(source, int(index) if index else None, label, split, group or None, task)


def check_task(saved: dict[Key, SplitRow], task: Task, path: Path) -> None:
    """Raise ``DataError`` where pictures had one label each and now several, or the other way round."""
    names = {"single": "one label each", "multi": "any number of labels each"}
    before = next((row.task for row in saved.values()), task)
    if before != task:
        raise DataError(
            f"the data has changed since {printable(str(path))} was written: pictures had {names[before]}, "
            f"and now have {names[task]}",
            hint="restore the data, or train anew",
        )


def check_same(found: dict[Key, str], saved: dict[Key, SplitRow], path: Path) -> None:
    """Raise ``DataError`` with the difference unless ``found``, (source, index) → label, is what ``saved``
    has.
    """
    added = [name_of(key) for key in found if key not in saved]
    missing = [name_of(key) for key, row in saved.items() if key not in found and row.split != SKIPPED]
    changed = [
        f"{name_of(key)} ({row.label} → {found[key]})"
        for key, row in saved.items()
        if key in found and found[key] != row.label
    ]
    if added or missing or changed:
        differences = [
            f"{len(names):,} {what}: {show_names(names)}"
            for names, what in ((added, "added"), (missing, "missing"), (changed, "with another label"))
            if names
        ]
        raise DataError(
            f"the data has changed since {printable(str(path))} was written: {'; '.join(differences)}",
            hint="restore the data, or train anew without that file",
        )


def name_of(key: Key) -> str:
    """As ``Sample.name``."""
    return key[0] if key[1] is None else f"{key[0]}[{key[1]}]"
