"""``resight cache``: what lies in the cache directory, and removing it. Needs no PyTorch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from resight.errors import StorageError, UsageError
from resight.images import printable
from resight.runs import CARD, ONNX, WEIGHTS
from resight.runs.plain_json import read_json
from resight.runs.storage import CACHE_TAG, cache_directory, is_cache
from resight.training.shard import Stored, folders, remove, stored

PICTURES, RUNS = "pictures", "runs"
KINDS: dict[str, str] = {
    PICTURES: "decoded training pictures",
    "weights": "downloaded weights",
    "data": "downloaded data sets",
    RUNS: "imported Runs",
    "bench": "measured speeds",
}
ALL = "all"


@dataclass(frozen=True)
class CacheRow:
    """One thing in the cache. kind: of ``KINDS``. name: in its folder. what: in words. data: the data set that
    pictures come from, or nothing. size: bytes. used: seconds since 1970 of the last use, or of the last change.
    """

    kind: str
    name: str
    what: str
    data: str
    size: int
    used: float


@dataclass(frozen=True)
class CacheContent:
    """root: the directory. rows: the largest first within each kind. limit: bytes for decoded pictures, as the last
    training set it (``data.disk_cache_gb``); None where there are none. in_use: what was not cleared because it is in
    use. kept: what was not cleared because Resight did not put it there as a cache.
    """

    root: Path
    rows: tuple[CacheRow, ...]
    limit: int | None
    in_use: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(row.size for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [asdict(row) for row in self.rows]
        left = {"in_use": self.in_use, "kept": self.kept}
        return {"root": str(self.root), "total": self.total, "limit": self.limit, "rows": rows, **left}


def cache(clear: str | None = None) -> CacheContent:
    """What is in the cache directory, after removing the kind ``clear`` (``all`` for every kind) from it.

    Nothing in it is needed: what is missing is made or fetched again. Only folders that ``make_cache`` made are
    cleared. Left, and named in ``in_use`` and ``kept``, are pictures that a training is writing now and, among the
    Runs, all that were not imported. Raises UsageError, before anything is removed, for a kind that does not exist and
    for a folder that is a link or has no CACHEDIR.TAG; StorageError for what cannot be removed.
    """
    root = cache_directory(PICTURES).parent
    in_use: list[str] = []
    kept: list[str] = []
    if clear is not None:
        if clear not in (*KINDS, ALL):
            raise UsageError(
                f"there is nothing called '{clear}' in the cache", hint=f"kinds: {', '.join(KINDS)}, {ALL}"
            )
        if root.resolve() in (Path.home().resolve(), Path(root.resolve().anchor)):
            raise UsageError(
                f"RESIGHT_CACHE is {root}: what lies there may not be Resight's, so nothing was removed",
                hint="remove it by hand, and give the cache a directory of its own",
            )
        kinds = tuple(KINDS) if clear == ALL else (clear,)
        for kind in kinds:
            _check_cache(root / kind)
        for kind in kinds:
            if kind == PICTURES:
                in_use += _clear_pictures(root / kind)
            else:
                kept += _clear(root / kind, kind)
    shards = list(stored(root / PICTURES))
    newest = max(shards, key=lambda shard: shard.used, default=None)
    limit = newest.about.get("limit") if newest else None
    others = [row for kind in KINDS if kind != PICTURES for row in _rows(root / kind, kind)]
    rows = sorted([*_picture_rows(shards), *others], key=lambda row: (list(KINDS).index(row.kind), -row.size, row.name))
    return CacheContent(root, tuple(rows), limit, tuple(in_use), tuple(kept))


def table(content: CacheContent) -> Iterator[str]:
    """Lines for a terminal."""
    for kind in dict.fromkeys(row.kind for row in content.rows):
        yield f"{kind}: {KINDS[kind]}"
        for row in (row for row in content.rows if row.kind == kind):
            day = datetime.fromtimestamp(row.used).strftime("%Y-%m-%d %H:%M")
            source = f"  of {printable(row.data)}" if row.data else ""
            yield f"  {_size(row.size):>9}  {day}  {printable(row.name)}  {row.what}{source}".rstrip()
    held = sum(row.size for row in content.rows if row.kind == PICTURES)
    limit = f"; decoded pictures {_size(held)} of at most {_size(content.limit)}" if content.limit else ""
    yield f"{_size(content.total)} in {printable(str(content.root))}{limit}"
    for name in content.in_use:
        yield f"not removed, because a training is writing there: {printable(name)}"
    for name in content.kept:
        yield f"not removed, because it was not imported: {printable(name)}"


def _picture_rows(shards: Iterable[Stored]) -> Iterator[CacheRow]:
    """One row for each data set and preparation, however many shards there are."""
    groups: dict[tuple[str, str], list[Stored]] = {}
    for shard in shards:
        groups.setdefault((shard.path.parent.name, str(shard.about.get("data", ""))), []).append(shard)
    for (name, data), group in groups.items():
        what = next((_describe(shard.about) for shard in group if shard.about), "unfinished")
        yield CacheRow(PICTURES, name, what, data, sum(s.size for s in group), max(s.used for s in group))


def _describe(about: dict[str, Any]) -> str:
    try:
        preparation = about["preparation"]
        geometry, short = preparation["geometry"], preparation["short"]
        channels = preparation["channels"]
        colour = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        if short:
            what = "whole pictures" if geometry["kind"] == "crop" else f"{geometry['kind']} squares"
            return f"{what} for crops of {geometry['size']} px, {colour}"
        return f"{geometry['kind']} {geometry['size']} px, {colour}"
    except (KeyError, TypeError):
        return json.dumps(about.get("preparation"))


def _rows(folder: Path, kind: str) -> Iterator[CacheRow]:
    with suppress(OSError):
        for path in folder.iterdir():
            size, used = _measure(path)
            if not path.name.startswith(".") and path.name != CACHE_TAG:
                what = "not imported, never cleared" if kind == RUNS and not _imported(path) else ""
                yield CacheRow(kind, path.name, what, "", size, used)


def _measure(path: Path) -> tuple[int, float]:
    """Bytes and the time of the last change of a file or of everything in a folder; links count as themselves."""
    size, used = 0, 0.0
    paths = [path]
    if path.is_dir() and not path.is_symlink():
        paths = [Path(folder) / name for folder, _, names in os.walk(path) for name in names] or [path]
    for one in paths:
        with suppress(OSError):
            found = one.lstat()
            size, used = size + (0 if one.is_dir() else found.st_size), max(used, found.st_mtime)
    return size, used


def _check_cache(folder: Path) -> None:
    """Raises UsageError for a folder that may hold more than a cache."""
    if folder.is_symlink():
        raise UsageError(
            f"{folder} is a link to another folder: what lies there may not be Resight's, so nothing was removed",
            hint="remove it by hand",
        )
    if folder.exists() and not is_cache(folder):
        raise UsageError(
            f"{folder} has no {CACHE_TAG}: Resight did not make it, so nothing was removed",
            hint="remove by hand what you do not need, and give the cache a directory of its own in RESIGHT_CACHE",
        )


def _clear_pictures(folder: Path) -> list[str]:
    """Removes decoded pictures; returns the names of what is in use."""
    busy = [str(shard.path) for shard in stored(folder) if not remove(shard.path)]
    for path in folders(folder):
        with suppress(OSError):
            path.rmdir()  # only where nothing is left in it
    return busy


def _clear(folder: Path, kind: str) -> list[str]:
    """Removes what is of this kind, but no Run that was trained; returns the names of what is left."""
    kept = []
    try:
        for path in list(folder.iterdir()) if folder.is_dir() else ():
            if path.name == CACHE_TAG:
                continue
            if kind == RUNS and not _imported(path):
                kept.append(str(path))
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise StorageError(
            f"cannot remove {error.filename or folder}: {error.strerror}", hint="check its owner and mode"
        ) from error
    return kept


def _imported(path: Path) -> bool:
    """Whether a folder holds what ``resight import`` writes and nothing else: a training leaves more."""
    if path.name == ".lock" or (path.name.startswith(".") and ".importing-" in path.name):
        return True
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return CARD in names and names <= {CARD, WEIGHTS, ONNX, ".lock"} and not _trained(path / CARD)


def _trained(card: Path) -> bool:
    """By what run.json says; where it cannot be read, by nothing."""
    with suppress(OSError, ValueError):
        plain = read_json(card.read_bytes())
        return not isinstance(plain, dict) or not plain.get("source")
    return False


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
