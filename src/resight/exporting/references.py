"""Which training pictures a network is given to compare with: of the Run, and of each route of an adaptive artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resight.inference.backend import Floats
from resight.inference.unknown import Reference, balanced, bank_size
from resight.inference.within import strata
from resight.samples import SampleSet


def compared(samples: SampleSet, width: int, seed: int) -> list[int]:
    """Positions of the training pictures for embeddings of ``width`` numbers, ascending: as many as `bank_size` allows,
    all classes alike, drawn by the seed. None of data without a training part.
    """
    train = [i for i, sample in enumerate(samples.samples) if sample.split == "train"]
    labels = samples.targets([samples.samples[i] for i in train])
    return [train[k] for k in balanced(strata(labels), bank_size(width), seed)]


def reference_of(samples: SampleSet, chosen: Sequence[int], embeddings: Floats) -> Reference:
    """Of the samples at these N ≥ 1 positions, and what a network makes of them, float32 (N, D)."""
    own = [samples.samples[i] for i in chosen]
    names = [sample.name for sample in own]
    return Reference.fit(embeddings, samples.targets(own), np.array(chosen, np.int64), names)


def how_well_known(unknown: Mapping[str, Any]) -> str:
    """In words: how many pictures like those of validation a card's ``unknown`` calls so."""
    low, high = (100 * unknown["alarms"][end] for end in ("low", "high"))
    return f"of pictures like these {low:.1f} to {high:.1f} % will be called unknown, too"
