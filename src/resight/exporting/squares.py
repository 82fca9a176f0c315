"""Labelled pictures as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resight.errors import ImageError
from resight.inference import bad_files, map_ordered
from resight.inference.backend import Pixels
from resight.runs import Run
from resight.samples import SampleSet


def squares(run: Run, samples: SampleSet, indices: Sequence[int], threads: int) -> Iterator[Pixels]:
    """uint8 (S, S, C) of each sample, in order, by the Run's geometry; a few are decoded ahead.

    Raises DataError for the first picture that cannot be read.
    """
    geometry, channels = run.card.geometry, run.card.channels

    def prepare(index: int) -> Pixels:
        try:
            return geometry.apply(samples.read(samples.samples[index], channels, geometry=geometry))
        except ImageError as error:
            raise bad_files([(samples.samples[index].source, error.reason)]) from error

    return map_ordered(prepare, indices, threads=threads, window=4 * threads)
