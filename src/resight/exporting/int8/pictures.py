"""Pictures as the network sees them: those that calibrate, and those of validation, kept for many candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.errors import DataError
from resight.exporting.squares import squares
from resight.inference.backend import Pixels
from resight.inference.unknown import balanced
from resight.inference.within import strata
from resight.runs import Run
from resight.samples import SampleSet


@dataclass(frozen=True, eq=False)
class Calibration:
    """pixels: uint8 (N, S, S, C), training pictures. fingerprint: SHA-256 of these pixels and the pictures' names."""

    pixels: Pixels
    fingerprint: str


def calibration_pictures(run: Run, samples: SampleSet, number: int, seed: int, threads: int) -> Calibration:
    """At most ``number`` of the training part, all classes alike as far as they have pictures; drawn by the seed alone.

    Raises DataError for no training part, and for pictures that cannot be read.
    """
    train = positions(samples, "train")
    if not train:
        raise DataError("there are no training pictures to calibrate int8 with", hint="give data with a training part")
    labels = samples.targets([samples.samples[i] for i in train])
    chosen = [train[i] for i in balanced(strata(labels), number, seed)]
    pixels = np.stack(list(squares(run, samples, chosen, threads)))
    digest = hashlib.sha256(pixels.tobytes())
    for i in chosen:
        digest.update(samples.samples[i].name.encode("utf-8", "surrogateescape") + b"\0")
    return Calibration(pixels, digest.hexdigest())


def positions(samples: SampleSet, part: str) -> list[int]:
    """Of the samples of a part, ascending."""
    return [i for i, sample in enumerate(samples.samples) if sample.split == part]


def stored_squares(run: Run, samples: SampleSet, indices: Sequence[int], path: Path, threads: int) -> Pixels:
    """The same as one array (N, S, S, C) in a file at ``path``: validation may be larger than memory."""
    size, channels = run.card.geometry.size, run.card.channels
    shape = (len(indices), size, size, channels)
    found: Pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for row, square in zip(found, squares(run, samples, indices, threads), strict=True):
        row[:] = square
    return found
