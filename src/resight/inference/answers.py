"""What a Predictor answers with for many pictures, and the error for those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError
from resight.images import printable
from resight.inference.backend import Floats


@dataclass(frozen=True)
class Outputs:
    """For N pictures, float32: ``probabilities`` (N, K) in 0 … 1, the network's own ``logits`` (N, K), before
    temperature, and ``embedding`` (N, D).
    """

    probabilities: Floats
    logits: Floats
    embedding: Floats


@dataclass(frozen=True)
class Answers:
    """For N samples that could be read.

    logits: float32 (N, K), divided by the temperature: their softmax (with several labels: sigmoid) is the
    probabilities, as evaluation needs it. probabilities: float32 (N, K) in 0 … 1. indices: int64 (N,), positions in the
    SampleSet.
    bad: (source, reason) of the others, names exact. unlike: float32 (N,), how unlike the training data each is, by
    the Run's score; None where the Run has none. route: float32 (N,), which of an adaptive artefact's graphs answered,
    from 0; None where there is one graph. looked: float32 (N, 2), at how many tiles was looked, of how many; None where
    it is all.
    """

    logits: Floats
    probabilities: Floats
    indices: NDArray[np.int64]
    bad: tuple[tuple[str, str], ...]
    unlike: Floats | None = None
    route: Floats | None = None
    looked: Floats | None = None


def bad_files(bad: Sequence[tuple[str, str]]) -> DataError:
    """The error for pictures that cannot be read, with all their names and reasons."""
    noun = "picture" if len(bad) == 1 else "pictures"
    return DataError(
        f"{len(bad):,} {noun} cannot be read:{reasons(bad)}",
        hint="repair or remove them, or leave them out and count them with --skip-bad",
    )


def reasons(bad: Sequence[tuple[str, str]]) -> str:
    return "".join(f"\n  {printable(source)}: {reason}" for source, reason in bad)
