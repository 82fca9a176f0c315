"""Data sets: which pictures and labels there are (``load``), whether they are good (``check_files``)."""

from __future__ import annotations

from resight.images import printable
from resight.samples import split_csv
from resight.samples.check import CheckReport, check_files
from resight.samples.find import find_images
from resight.samples.folds import HELD_OUT, fold_sets
from resight.samples.load import LEFT_OUT, TEST_FRACTION, VAL_FRACTION, load
from resight.samples.model import SPLITS, Sample, SampleSet
from resight.samples.order import natural_key

__all__ = [
    "HELD_OUT",
    "LEFT_OUT",
    "SPLITS",
    "TEST_FRACTION",
    "VAL_FRACTION",
    "CheckReport",
    "Sample",
    "SampleSet",
    "check_files",
    "find_images",
    "fold_sets",
    "load",
    "natural_key",
    "printable",
    "split_csv",
]
