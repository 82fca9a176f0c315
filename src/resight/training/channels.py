"""How many channels the pictures of a training have, and the statistics that they are normalised with."""

from __future__ import annotations

from collections import Counter

import numpy as np

from resight.errors import DataError, UsageError
from resight.images import probe
from resight.models import Source
from resight.recipes.sections import DataConfig
from resight.samples import CheckReport, SampleSet, printable

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def check_one_number(samples: SampleSet, report: CheckReport) -> None:
    """Raises DataError where arrays have another number of channels than others; grey and RGB go together."""
    found = Counter(report.channels.tolist())
    if len(found) < 2 or set(found) == {1, 3}:
        return
    bad = {source for source, _ in report.bad}
    good = [sample.name for sample in samples.samples if sample.source not in bad]
    examples = [good[int((report.channels == number).argmax())] for number in found]
    listed = "; ".join(
        f"{count:,} have {number} (such as {printable(name)})"
        for (number, count), name in zip(found.items(), examples, strict=True)
    )
    raise DataError(
        f"the pictures have different numbers of channels: {listed}",
        hint="say which is meant, then the others are listed as bad: --channels N",
    )


def channels_of(samples: SampleSet) -> int:
    """1 where every picture is grey, else 3; of arrays, what the first one has that is not grey."""
    if samples.channels is not None:
        return samples.channels
    found = (probe(samples.path(sample)).channels for sample in samples.samples)
    return next((channels for channels in found if channels != 1), 1)


def decide_statistics(data: DataConfig, source: Source | None) -> None:
    """Sets ``data.mean`` and ``data.std`` where weights or wishes say them; leaves them empty where they are measured.

    Those of RGB and of grey stand for each other. Of any other number of channels they say nothing: the weights' are
    left, and UsageError is raised for a wish.
    """
    if source is not None and not data.mean and data.channels in (1, 3):
        # Weights from a bare file: nearly all published ones were trained with ImageNet's statistics.
        data.mean, data.std = (list(values) for values in IMAGENET)
    found = len(data.mean)
    if found in (0, data.channels):
        return
    if {found, data.channels} == {1, 3}:
        values = np.array([data.mean, data.std])
        fitted = values.mean(axis=1, keepdims=True) if data.channels == 1 else values[:, [0] * data.channels]
        data.mean, data.std = fitted.tolist()
    elif source is not None and list(source.mean or ()) == data.mean:
        data.mean, data.std = [], []
    else:
        raise UsageError(
            f"data.mean and data.std have {found} numbers; the pictures have {data.channels} channels",
            hint="give one number a channel, or leave both out: then they are measured",
        )
