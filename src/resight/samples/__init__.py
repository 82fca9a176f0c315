"""Data sets: which pictures and labels there are (``load``), whether they are good (``check_files``)."""

from __future__ import annotations

from resight.images import printable
from resight.samples import split_csv
from resight.samples.check import CheckReport, check_files
from resight.samples.find import find_images
from resight.samples.load import TEST_FRACTION, VAL_FRACTION, load
from resight.samples.model import SPLITS, Sample, SampleSet
from resight.samples.order import natural_key

__all__ = [
    "SPLITS",
    "TEST_FRACTION",
    "VAL_FRACTION",
    "CheckReport",
    "Sample",
    "SampleSet",
    "check_files",
    "find_images",
    "load",
    "natural_key",
    "printable",
    "split_csv",
]
