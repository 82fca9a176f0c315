"""``load``: whatever layout a data set has, one ``SampleSet``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from resight.errors import DataError, UsageError
from resight.images import printable
from resight.samples import arrays
from resight.samples import split_csv as saved_split
from resight.samples.draft import Draft, Row, class_list, shape_error
from resight.samples.folders import read_folders
from resight.samples.model import NO_LABEL, Sample, SampleSet
from resight.samples.multilabel_splits import carve_multilabel
from resight.samples.split_csv import Key
from resight.samples.splits import Item, carve, check_fractions
from resight.samples.table import read_table
from resight.samples.unlabelled import read_unlabelled
from resight.samples.walk import entries

VAL_FRACTION = 0.1
TEST_FRACTION = 0.1
LEFT_OUT = "left out when the split was made"

URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def load(
    path: str | Path,
    *,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    test_fraction: float = TEST_FRACTION,
    split_csv: Path | None = None,
    split_data: bytes | None = None,
    training: bool = True,
    classes: Sequence[str] = (),
    known: Mapping[Key, str] | None = None,
    unlabelled: bool = False,
) -> SampleSet:
    """Read the data set at ``path``: a folder of classes, split folders, a CSV table, idx or binary CIFAR
    files.

    Splits that are missing are carved out of train: ``val_fraction`` and ``test_fraction`` of it, stratified
    by class, never through a group, the same for the same ``seed`` and files. Splits that are there are
    never touched. ``training`` False lifts what only training needs: two classes or more, each with training
    pictures. ``split_csv``, the split.csv of a Run, splits exactly as then, and refuses data that has
    changed; ``split_data`` is its content, where that was read and verified already.

    ``classes`` come first, in this order, also those without pictures; others follow in natural order. ``known``:
    (source, index) → train, val or test of pictures that keep this part wherever parts are carved, with all of their
    group; carving deals out the others. ``unlabelled``: take every picture in the folder ``path``, and below, as one
    without a label, whatever its folders are called (:mod:`resight.samples.unlabelled`).

    Raises ``UsageError`` for a path that does not exist and for wrong arguments, ``DataError`` for data that
    is not what it must be.
    """
    check_fractions({"val": val_fraction, "test": test_fraction}, seed)
    draft = read_unlabelled(_existing(path)) if unlabelled else _read(_existing(path), training)
    ordered = draft.classes or () if unlabelled else class_list(draft, training=training)
    ordered = (*classes, *(name for name in ordered if name not in set(classes)))
    if split_csv is not None:
        return _as_saved(draft, ordered, split_csv, split_data)
    present = {row.split for row in draft.rows}
    fractions = {"val": val_fraction, "test": test_fraction}
    wanted = {split: share for split, share in fractions.items() if split not in present}
    kept = _kept(draft.rows, known or {}, {"train", *wanted})
    pool = [k for k, row in enumerate(draft.rows) if row.split in (None, "train") and k not in kept]
    items = [
        Item((row.source, -1 if row.index is None else row.index), row.label, row.group, row.labels)
        for row in (draft.rows[position] for position in pool)
    ]
    parts, warnings = (carve if draft.task == "single" else carve_multilabel)(items, wanted, seed)
    splits = [kept.get(k) or row.split or "train" for k, row in enumerate(draft.rows)]
    for position, part in zip(pool, parts, strict=True):
        splits[position] = part
    draft.warnings += warnings
    return _finish(draft, ordered, splits)


def _kept(rows: list[Row], known: Mapping[Key, str], parts: Set[str]) -> dict[int, str]:
    """The part of each position whose picture, or a picture of its group, is known, as far as it may be carved."""
    found = {k: known[row.source, row.index] for k, row in enumerate(rows) if (row.source, row.index) in known}
    groups = {rows[k].group: part for k, part in found.items() if rows[k].group is not None}
    found |= {k: groups[row.group] for k, row in enumerate(rows) if row.group in groups}
    return {k: part for k, part in found.items() if part in parts and rows[k].split in (None, "train")}


def _existing(path: str | Path) -> Path:
    if isinstance(path, str) and URL.match(path):
        raise UsageError(f"{printable(path)} is an address, not a folder", hint="download it first")
    shown, path = printable(str(path)), Path(path)
    try:
        if path.is_dir():
            return path
        if path.is_file():
            if path.suffix.lower() == ".csv":
                return path
            archive = path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
            raise DataError(
                f"{shown}: this is {'an archive' if archive else 'a single file'}; expected a folder or a .csv table",
                hint="unpack it first" if archive else None,
            )
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown}: cannot be opened ({printable(str(error))})") from error
    raise UsageError(f"there is no data set at {shown}", hint="check the path")


def _read(path: Path, training: bool) -> Draft:
    if path.is_file():
        return read_table(path)
    folders, files = entries(path, path)
    kind = arrays.detect(path, files)
    if kind == "idx":
        return arrays.read_idx(path, files)
    if kind == "cifar":
        return arrays.read_cifar(path, files)
    if not folders and not files:
        shape_error(path, "an empty folder")
    return read_folders(path, training=training)


def _as_saved(draft: Draft, classes: tuple[str, ...], path: Path, data: bytes | None) -> SampleSet:
    saved = saved_split.read(path, data)
    saved_split.check_task(saved, draft.task, path)
    saved_split.check_same({(row.source, row.index): row.label for row in draft.rows}, saved, path)
    lines = [saved[row.source, row.index] for row in draft.rows]
    loaded = _finish(draft, classes, [line.split.replace(saved_split.SKIPPED, "train") for line in lines])
    return loaded.leaving_out([LEFT_OUT if line.split == saved_split.SKIPPED else None for line in lines])


def _finish(draft: Draft, classes: tuple[str, ...], splits: list[str]) -> SampleSet:
    numbers = {name: number for number, name in enumerate(classes)}

    def sample(row: Row, split: str) -> Sample:
        if row.labels is None:
            return Sample(row.source, row.index, numbers[row.label], split, row.group)
        labels = tuple(sorted(numbers[name] for name in row.labels))
        return Sample(row.source, row.index, NO_LABEL, split, row.group, labels)

    samples = tuple(sample(row, split) for row, split in zip(draft.rows, splits, strict=True))
    loaded = SampleSet(
        root=draft.root,
        classes=classes,
        samples=samples,
        channels=draft.channels,
        kind=draft.kind,
        warnings=tuple(draft.warnings),
        read_array=draft.read_array,
        task=draft.task,
        by_column=draft.task == "multi" and draft.classes is not None,
    )
    loaded._arrays.update(draft.arrays)
    return loaded
