"""Pictures that a Run knows, found again in other data: under their own names, or by content under others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resight.errors import ImageError
from resight.images import read_bytes
from resight.samples import load
from resight.samples.check import content_hash
from resight.samples.split_csv import Key, SplitRow


def root_of(data: Path) -> Path:
    """The folder that sources are relative to: that of a table."""
    resolved = data.resolve()
    return resolved.parent if resolved.suffix.lower() == ".csv" else resolved


def same_size(old: Path, new: Path, source: str) -> bool:
    """Whether a file is as large in both places; True where either is not there to be compared."""
    before, after = _size(old / source), _size(new / source)
    return before is None or after is None or before == after


def renamed(rows: Mapping[Key, SplitRow], old: Path, data: Path) -> dict[Key, SplitRow]:
    """The rows of a split.csv, in order, under the names that their pictures have in ``data``.

    old: the folder that their names belong to. A picture that ``data`` lacks under its own name is looked for among the
    files whose names are in no row: by size first, then by content. What cannot be read any more is not found, and
    keeps its name; so do pictures inside array files. Of two files with one content the first is taken.
    """
    new = root_of(data)
    missing = [s for s, index in rows if index is None and not ((new / s).is_file() and same_size(old, new, s))]
    wanted = {source: size for source in missing if (size := _size(old / source)) is not None}
    if not wanted:
        return dict(rows)
    others: dict[int | None, list[str]] = defaultdict(list)
    for sample in load(data, val_fraction=0, test_fraction=0).samples:
        if sample.index is None and (sample.source, None) not in rows:
            others[_size(new / sample.source)].append(sample.source)
    contents: dict[int, dict[bytes | None, list[str]]] = {}
    names = {}
    for source, size in wanted.items():
        if size not in contents:
            contents[size] = defaultdict(list)
            for other in reversed(others.get(size, [])):
                contents[size][_content(new / other)].append(other)
        digest = _content(old / source) if contents[size] else None
        if digest is not None and contents[size].get(digest):
            names[source] = contents[size][digest].pop()
    found = {(names.get(key[0], key[0]) if key[1] is None else key[0], key[1]): row for key, row in rows.items()}
    return {key: replace(row, source=key[0]) for key, row in found.items()}


def _size(path: Path) -> int | None:
    """None for what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _content(path: Path) -> bytes | None:
    """None for what cannot be read."""
    try:
        return content_hash(read_bytes(path))
    except ImageError:
        return None
