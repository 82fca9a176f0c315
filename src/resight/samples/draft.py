"""What a layout's reader hands over: rows as found, before classes are numbered and missing splits are
carved.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError
from resight.images import printable
from resight.samples.model import ArrayReader, Kind, Task, show_names
from resight.samples.order import natural_key
from resight.samples.walk import Tally

EXAMPLE = """expected one of
    flowers/daisy/1.jpg              one folder for each class, at least two; or
    flowers/train/daisy/1.jpg        the same within train, and val, test if you have them; or
    flowers.csv                      with the columns path,label and, if you like, split and group; or
    flowers.csv                      with the columns path,labels: any number of labels a picture, as in daisy|rose"""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as found. ``split`` is None where the layout says nothing about it. ``labels``: in a multi-label
    set, its classes, in natural order; ``label`` is then those names in one cell (:mod:`resight.samples.cells`).
    """

    source: str
    index: int | None
    label: str
    split: str | None
    group: str | None = None
    labels: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its classes."""
        return (self.label,) if self.labels is None else self.labels


@dataclass
class Draft:
    """``classes`` is given where the layout has a class list of its own; else it is made of the labels in
    ``rows``. ``task``: "multi" where ``rows`` have ``labels``.
    """

    root: Path
    kind: Kind
    rows: list[Row]
    classes: tuple[str, ...] | None = None
    channels: int | None = None
    warnings: list[str] = field(default_factory=list)
    read_array: ArrayReader | None = None
    arrays: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # those that had to be read already
    task: Task = "single"


def class_list(draft: Draft, *, training: bool = True) -> tuple[str, ...]:
    """The one class list. Raises ``DataError`` for a set without labels and, where it is to be trained on, for
    fewer than two classes (one will do in a multi-label set: it is there or not) and for classes missing from training.
    """
    split_of_row = {(name, row.split or "train") for row in draft.rows for name in row.names}
    trained = {label for label, split in split_of_row if split == "train"}
    classes = draft.classes or tuple(sorted({name for name, _ in split_of_row}, key=natural_key))
    if classes and not training:
        return classes
    if len(classes) < (2 if draft.task == "single" else 1):
        shape_error(draft.root, f"only one class ({show_names(classes)})" if classes else "no labelled pictures")
    for split in ("val", "test"):
        there = {label for label, name in split_of_row if name == split}
        strange = sorted(there - trained, key=natural_key)
        if strange:
            raise DataError(
                f"{printable(str(draft.root))}: {len(strange)} classes are in {split} but not in train: "
                f"{show_names(strange)}; train has {show_names(sorted(trained, key=natural_key))}",
                hint="add training pictures for them, remove them, or correct a misspelt name",
            )
        missing = [name for name in classes if name not in there]
        if there and missing:
            draft.warnings.append(f"{len(missing)} classes have no pictures in {split}: {show_names(missing)}")
    untrained = [name for name in classes if name not in trained]
    if untrained:
        draft.warnings.append(f"{len(untrained)} classes have no pictures at all in train: {show_names(untrained)}")
    return classes


def shape_error(root: Path, found: str, hint: str | None = None) -> NoReturn:
    """Raise the ``DataError`` for a data set of the wrong shape: what was found, what is expected, an
    example.
    """
    raise DataError(f"{printable(str(root))}: found {found}\n{EXAMPLE}", hint=hint)


def tally_warnings(tally: Tally) -> list[str]:
    """Sentences about files that are not samples."""
    warnings = []
    for names, what in (
        (
            tally.unsupported,
            "pictures of kinds that Resight does not read are left out; convert them to JPEG or PNG",
        ),
        (tally.other, "files are not pictures by their extension and are left out"),
    ):
        if names:
            kinds = Counter(Path(name).suffix.lower() or "no extension" for name in names)
            listed = ", ".join(f"{count:,} × {printable(kind)}" for kind, count in kinds.most_common(5))
            warnings.append(f"{len(names):,} {what} ({listed}): {show_names(names, 3)}")
    return warnings
