"""Folders of pictures: one folder a class, either directly under the root or within split folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resight.errors import DataError
from resight.images import printable
from resight.samples import arrays
from resight.samples.draft import Draft, Row, shape_error, tally_warnings
from resight.samples.model import SPLITS, show_names
from resight.samples.walk import SUPPORTED, Tally, entries, file_kind, images_below, is_sample, only_arrays

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Usual spellings of split folders, in lower case."""


def read_folders(root: Path, *, training: bool = True) -> Draft:
    """Read either folder layout. Raises ``DataError`` for any other shape, showing what was found; where it is
    not for training, one class, empty class folders and split folders without train are no wrong shape.
    """
    folders, files = entries(root, root)
    splits = _split_folders(root, folders, training)
    if splits:
        return _read_splits(root, folders, splits, training)
    return _read_classes(root, folders, files, training)


def split_name(text: str) -> str | None:
    """train, val or test for any of its usual spellings, in any case; None for anything else."""
    return SPLIT_NAMES.get(text.strip().lower())


def _split_folders(root: Path, folders: list[str], training: bool) -> dict[str, str]:
    """Map split → folder name where ``root`` is laid out by splits; empty where its folders are classes.

    A class may be called "train" as well: a split folder is one that holds folders.
    Raises ``DataError`` where it cannot be told.
    """
    splits: dict[str, str] = {}
    for name in folders:
        split = split_name(name)
        if split is None or not entries(root / name, root)[0]:
            continue
        if split in splits:
            raise DataError(
                f"{printable(str(root))}: both {printable(splits[split])!r} and {printable(name)!r} mean {split}",
                hint="merge them, or rename the one that is not meant",
            )
        splits[split] = name
    others = [name for name in folders if not split_name(name)]
    if splits and "train" not in splits and not others:
        if not training:
            return splits
        shape_error(root, f"split folders, but none for training: {show_names(folders)}", "name one of them train")
    if "train" in splits and len(splits) == 1 and others:
        shape_error(
            root,
            f"{printable(splits['train'])!r}, which holds folders as a split does, beside {show_names(others)}",
            f"if the classes are in it, give {printable(str(root / splits['train']))}, or move the others away",
        )
    return splits if "train" in splits else {}


def _read_splits(root: Path, folders: list[str], splits: dict[str, str], training: bool) -> Draft:
    parts = [root / name for name in splits.values()]
    draft, tally = Draft(root, "split-folders", []), Tally(only_arrays(_inside(parts, root), root))
    others = [name for name in folders if name not in splits.values()]
    for split in SPLITS:
        if split in splits:
            _read_split(draft, root / splits[split], split, tally, training)
    unlabelled = [name for name in others if split_name(name)]
    strangers = [name for name in others if not split_name(name)]
    if unlabelled:
        draft.warnings.append(f"these have no class folders, so no labels, and are left out: {show_names(unlabelled)}")
    if strangers:
        draft.warnings.append(f"folders beside the splits are left out: {show_names(strangers)}")
    draft.warnings += tally_warnings(tally)
    return draft


def _inside(folders: list[Path], root: Path) -> Iterator[Path]:
    """The folders in these folders: what lies beside them is no sample."""
    for folder in folders:
        yield from (folder / name for name in entries(folder, root)[0])


def _read_split(draft: Draft, folder: Path, split: str, tally: Tally, training: bool) -> None:
    root = draft.root
    classes, files = entries(folder, root)
    _warn_stray(draft, folder, files, tally)
    empty = []
    for name in classes:
        sources = list(images_below(folder / name, root, tally))
        draft.rows += [Row(source, None, name, split) for source in sources]
        if not sources:
            empty.append(name)
    if empty and split == "train" and training:
        counts = {name: sum(row.label == name for row in draft.rows) for name in classes}
        shape_error(folder, f"{len(empty)} class folders without pictures: {show_names(empty)} ({_show(counts)})")
    if empty:
        draft.warnings.append(f"{len(empty)} class folders in {split} hold no pictures: {show_names(empty)}")


def _read_classes(root: Path, folders: list[str], files: list[str], training: bool) -> Draft:
    draft, tally = Draft(root, "folder", []), Tally(only_arrays((root / name for name in folders), root))
    counts = {}
    for name in folders:
        sources = list(images_below(root / name, root, tally))
        draft.rows += [Row(source, None, name, None) for source in sources]
        counts[name] = len(sources)
    empty = _refuse_wrong_shape(root, counts, files, training)
    if empty:
        draft.warnings.append(f"{len(empty)} class folders hold no pictures: {show_names(empty)}")
    _warn_stray(draft, root, files, tally)
    draft.warnings += tally_warnings(tally)
    return draft


def _refuse_wrong_shape(root: Path, counts: dict[str, int], files: list[str], training: bool) -> list[str]:
    """Raise ``DataError`` for what is no folder of classes; return the classes without pictures."""
    pictures = sum(file_kind(name) == SUPPORTED for name in files)
    tables = [name for name in files if name.lower().endswith(".csv")]
    filled = [name for name, count in counts.items() if count]
    found = f"{pictures:,} pictures directly in it and {_show(counts)}"
    if not filled:
        hint = "put the pictures into one folder for each class" if pictures else None
        if tables:
            hint = f"give the table itself: {printable(str(root / tables[0]))}"
        if nested := _array_folder(root, root):
            hint = f"{printable(str(nested))} holds a data set of array files: give that folder"
        shape_error(root, found, hint)
    for name in filled:
        inner = [folder for folder in entries(root / name, root)[0] if split_name(folder) == "train"]
        if inner and len(filled) == 1:
            shape_error(root, found, f"{printable(str(root / name))} looks like a data set: give that folder")
        if inner:
            shape_error(
                root,
                f"the folder {printable(name)!r} with a split folder {printable(inner[0])!r} inside",
                "split folders come first, class folders within them; or give one of these folders as the data set",
            )
    if len(filled) == 1 and training:
        inside = root / filled[0]
        deeper = [name for name in entries(inside, root)[0] if any(images_below(inside / name, root, Tally()))]
        hint = f"{printable(str(inside))} holds {len(deeper)} folders: if they are the classes, give it"
        shape_error(
            root,
            f"only one class with pictures: {found}",
            hint if len(deeper) > 1 else "add a folder for a second class",
        )
    empty = [name for name, count in counts.items() if not count]
    if empty and training:
        shape_error(
            root,
            f"{len(empty)} class folders without pictures: {show_names(empty)} ({_show(counts)})",
            "fill them, or remove them",
        )
    return empty


def _array_folder(folder: Path, root: Path, depth: int = 2) -> Path | None:
    """The first folder below that holds idx or CIFAR files, such as MNIST/raw."""
    for name in entries(folder, root)[0] if depth else []:
        inner = folder / name
        if arrays.detect(inner, entries(inner, root)[1]):
            return inner
        if deeper := _array_folder(inner, root, depth - 1):
            return deeper
    return None


def _warn_stray(draft: Draft, folder: Path, files: list[str], tally: Tally) -> None:
    stray = [name for name in files if is_sample(name, tally)]
    if stray:
        draft.warnings.append(
            f"{len(stray):,} pictures directly in {printable(folder.name)} are in no class folder and "
            "are left out: "
            f"{show_names(stray, 3)}"
        )


def _show(counts: dict[str, int]) -> str:
    if not counts:
        return "no folders"
    listed = [f"{name}: {count:,}" for name, count in counts.items()]
    return f"{len(counts)} folders, pictures in each: {show_names(listed, 10)}"
