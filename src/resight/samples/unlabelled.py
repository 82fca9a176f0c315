"""Pictures without labels: a folder, flat or nested."""

from __future__ import annotations

from pathlib import Path

from resight.errors import DataError, UsageError
from resight.images import printable
from resight.samples import arrays
from resight.samples.draft import Draft, Row, tally_warnings
from resight.samples.folders import split_name
from resight.samples.model import UNLABELLED
from resight.samples.walk import SUPPORTED, Tally, entries, file_kind, images_below, only_arrays


def read_unlabelled(root: Path) -> Draft:
    """Every picture in the folder and below. Raises UsageError for what is no folder of pictures, ``DataError`` for a
    folder without any.
    """
    shown = printable(str(root))
    if not root.is_dir():
        raise UsageError(f"{shown} is a table, which has labels", hint="leave --unlabelled out: no label is looked at")
    if arrays.detect(root, entries(root, root)[1]):
        raise UsageError(f"{shown} holds array files, which have labels", hint="leave --unlabelled out")
    tally = Tally(only_arrays([root], root))
    rows = [Row(source, None, UNLABELLED, None) for source in images_below(root, root, tally)]
    if not rows:
        raise DataError(f"{shown}: there is no picture in this folder", hint="check the path")
    return Draft(root, "folder", rows, classes=(UNLABELLED,), warnings=tally_warnings(tally))


def looks_labelled(root: Path) -> bool:
    """Whether a data set says what its pictures show: a table, array files, a folder ``train`` of folders, or at least
    two folders with pictures and no picture beside them. Raises ``DataError`` for a folder that cannot be read.
    """
    if not root.is_dir():
        return True
    folders, files = entries(root, root)
    if arrays.detect(root, files):
        return True
    if any(split_name(name) == "train" and entries(root / name, root)[0] for name in folders):
        return True
    if any(file_kind(name) == SUPPORTED for name in files):
        return False
    filled = [name for name in folders if any(images_below(root / name, root, Tally()))]
    return len(filled) > 1
