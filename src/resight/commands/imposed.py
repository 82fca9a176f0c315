"""``resight train --split``: a split that was made elsewhere, instead of carving one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resight import samples as data_sets
from resight.errors import DataError, UsageError
from resight.images import printable
from resight.runs import SPLIT
from resight.samples import SampleSet
from resight.samples.model import show_names

FRACTIONS = ("data.val_fraction", "data.test_fraction")


def imposed_split(data: str | Path, split: str | Path, wishes: Mapping[str, Any]) -> SampleSet:
    """The data set, split as ``split`` says: a split.csv, or a Run that has one. Pictures it skips are left out.

    Raises UsageError for a file that is not there and for wishes about carving, DataError where the data differ from
    the table, or it leaves nothing to train or validate with.
    """
    useless = [name for name in FRACTIONS if name in wishes]
    if useless:
        raise UsageError(f"{' and '.join(useless)} would have no effect: --split says which picture is which")
    table = Path(split) / SPLIT if Path(split).is_dir() else Path(split)
    if not table.is_file():
        raise UsageError(f"there is no split at {printable(str(table))}", hint="give a Run, or a split.csv of one")
    samples = data_sets.load(data, split_csv=table)
    counts = samples.counts()
    untrained = [name for name, count in zip(samples.classes, counts["train"], strict=True) if not count]
    if untrained or not np.any(counts["val"]):
        lacks = f"gives no training picture to {show_names(untrained)}" if untrained else "has no validation part"
        raise DataError(f"{printable(str(table))} {lacks}", hint="training needs both parts, and all classes in train")
    return samples
