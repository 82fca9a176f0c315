"""The cleaned data set as a table that ``resight train`` reads. Nothing is deleted or moved: pictures are left out.

- Unreadable and blank pictures are left out, of every part.
- Of the same picture under different labels, exactly or nearly, all are left out: nobody has said which label is right.
- Of duplicates across parts, exact or near, those in train are left out, and those in val where test has them
  too; test keeps its own.
- Of exact duplicates within a part the first is kept.
- Where parts are still to be carved out of train, near-duplicates, bursts and names of one original there get a common
  ``group``, together with the table's own.

Names stand in the table exactly as they are, since training must find them; a path that a spreadsheet could take for a
formula begins with ``./``.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.doctor import leaks, quality
from resight.doctor.balance import carved_parts
from resight.doctor.duplicates import Duplicates, Groups, conflicts
from resight.doctor.scan import Scan
from resight.errors import DataError, UsageError
from resight.images import printable
from resight.inference import save
from resight.samples import SampleSet


@dataclass(frozen=True)
class Manifest:
    """``dropped``: position → why; ``groups``: position → name."""

    dropped: dict[int, str]
    groups: dict[int, str]

    def summary(self, total: int) -> str:
        """One sentence for people."""
        why = ", ".join(f"{count:,} {reason}" for reason, count in Counter(self.dropped.values()).most_common())
        grouped = f"; {len(self.groups):,} in {len(set(self.groups.values())):,} groups" if self.groups else ""
        return f"{total - len(self.dropped):,} of {total:,} pictures{f', without {why}' if why else ''}{grouped}"


def clean(scan: Scan, found: Duplicates) -> Manifest:
    """Which pictures to leave out, and which to keep together."""
    samples = scan.samples
    dropped = dict.fromkeys(sorted(scan.failed), "unreadable")
    dropped |= dict.fromkeys(np.flatnonzero(quality.blank(scan)).tolist(), "blank")
    for group in (*found.exact, *found.near):
        if conflicts(samples, group):
            dropped |= dict.fromkeys(group, "under different labels")
    for group, exact in [*((g, True) for g in found.exact), *((g, False) for g in found.near)]:
        left = [k for k in group if k not in dropped]
        parts = {samples.samples[k].split for k in left}
        seen: set[str] = set()
        for k in left:
            part = samples.samples[k].split
            if part == "train" and len(parts) > 1:
                dropped[k] = "also in val or test"
            elif part == "val" and "test" in parts:
                dropped[k] = "also in test"
            elif exact and part in seen:
                dropped[k] = "duplicates within a part"
            seen.add(part)
    return Manifest(dropped, _groups(scan, found, dropped))


def _groups(scan: Scan, found: Duplicates, dropped: dict[int, str]) -> dict[int, str]:
    samples, joined = scan.samples, Groups()
    own = {k: sample.group for k, sample in enumerate(samples.samples) if sample.group is not None}
    if not carved_parts(samples):
        return {k: group for k, group in own.items() if k not in dropped}
    for group in (*found.near, *leaks.bursts(scan), *leaks.stems(samples), *leaks.given(samples)):
        kept = [k for k in group if k not in dropped and samples.samples[k].split == "train"]
        for k in kept[1:]:
            joined.join(kept[0], k)
    names = {k: group for k, group in own.items() if k not in dropped}
    taken = set(own.values())
    for number, members in enumerate(joined.groups(), start=1):
        named = sorted({own[k] for k in members if k in own})
        name = named[0] if named else f"alike-{number}"
        while not named and name in taken:
            name += "'"
        names |= dict.fromkeys(members, name)
    return names


def write(scan: Scan, manifest: Manifest, path: Path, data: Path) -> None:
    """Write the table to ``path``, atomically.

    data: what the data set was loaded from, never overwritten. Raises UsageError for a place from which the
    pictures cannot be named, DataError for array files and for names that are not UTF-8, StorageError.
    """
    folder = check_place(scan.samples, path, data)
    save(_rows(scan, manifest, folder), path)


def check_place(samples: SampleSet, path: Path, data: Path) -> Path:
    """Raise what ``write`` raises for ``path``, before the work begins; return its folder."""
    if samples.kind in ("idx", "cifar"):
        raise DataError(
            "the pictures of idx and CIFAR files have no files of their own, so no table can name them",
            hint="unpack them into class folders first",
        )
    folder, root = path.absolute().parent.resolve(), samples.root.resolve()
    if not root.is_relative_to(folder):
        raise UsageError(
            f"{printable(str(path))} is neither in {printable(str(root))} nor above it: a table can only name pictures "
            "in or below its own folder",
            hint=f"for example {printable(str(default_path(data)))}",
        )
    if path.exists() and data.is_file() and path.resolve() == data.resolve():
        raise UsageError(f"{printable(str(path))} is the data set itself", hint="give the cleaned table another name")
    return folder


def default_path(data: Path) -> Path:
    """Beside the data set, ``NAME-clean.csv``."""
    whole = data if data.name not in ("", "..") else Path(os.path.normpath(data.absolute()))
    return whole.with_name(f"{whole.name.removesuffix('.csv')}-clean.csv")


def _rows(scan: Scan, manifest: Manifest, folder: Path) -> Iterator[str]:
    samples = scan.samples
    prefix = samples.root.resolve().relative_to(folder)
    fixed = samples.kind != "folder"
    yield f"path,{'label' if samples.task == 'single' else 'labels'},split,group\n"
    for k, sample in enumerate(samples.samples):
        if k in manifest.dropped:
            continue
        path = (prefix / sample.source).as_posix()
        path = path if path[0].isalnum() else f"./{path}"
        cells = [path, samples.label_text(sample), sample.split if fixed else "", manifest.groups.get(k, "")]
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        try:
            line.getvalue().encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{printable(sample.source)}: this name is not UTF-8, as a table must be", hint="rename the file"
            ) from error
        yield line.getvalue()
