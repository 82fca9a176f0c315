"""Which training pictures the network finds most alike, and how all of them lie to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError, ImageError, RunError, UsageError
from resight.images import printable
from resight.inference import Predictor, Reference, unit
from resight.samples import Sample, SampleSet

Floats = NDArray[np.float32]
BANK = 1000
_AT_ONCE = 64


@dataclass(frozen=True)
class Bank:
    """Training pictures: ``embeddings`` float32 (M, D), of length 1; ``samples``: the M pictures, in order."""

    embeddings: Floats
    samples: tuple[Sample, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (M,): positions in the classes of the data; of pictures with one class each."""
        return np.array([sample.label for sample in self.samples], np.int64)

    def kinds(self, classes: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Of each picture its position, int64 (M,), among the names that follow: ``classes``, those of the data; of
        pictures with any number of labels the combinations there are, the most frequent first.
        """
        if all(sample.labels is None for sample in self.samples):
            return self.labels, tuple(classes)
        order = [each for each, _ in Counter(sample.each for sample in self.samples).most_common()]
        numbers = {each: number for number, each in enumerate(order)}
        names = tuple(", ".join(classes[k] for k in each) or "no label" for each in order)
        return np.array([numbers[sample.each] for sample in self.samples], np.int64), names


def reference_bank(reference: Reference, samples: SampleSet, *, limit: int | None = None, seed: int = 0) -> Bank:
    """The training pictures that the Run carries; of more than ``limit``, so many drawn with ``seed``.

    Raises RunError for a reference whose positions, names and classes are not those of ``samples``.
    """
    if reference.labels.ndim == 1:
        labels: list[tuple[int, ...]] = [(label,) for label in reference.labels.tolist()]
    else:
        labels = [tuple(np.flatnonzero(row).tolist()) for row in reference.labels]
    for index, source, each in zip(reference.indices.tolist(), reference.sources, labels, strict=True):
        known = samples.samples[index] if 0 <= index < len(samples) else None
        if known is None or known.name != source or known.each != each:
            raise RunError(
                f"the Run's reference says that picture {index} of the data is {printable(source)}, which it is not",
                hint="restore reference.safetensors from a copy, or leave training pictures out: --compare 0",
            )
    places = np.arange(len(reference.indices))
    if limit is not None and limit < len(places):
        places = np.sort(np.random.default_rng(seed).choice(len(places), limit, replace=False))
    chosen = tuple(samples.samples[k] for k in reference.indices[places])
    return Bank(reference.bank[places].astype(np.float32), chosen)


def make_bank(predictor: Predictor, samples: SampleSet, *, limit: int = BANK, seed: int = 0) -> Bank:
    """The embeddings of up to ``limit`` training pictures, drawn with ``seed``. Unreadable ones are left out.

    Raises UsageError for a limit below 1, DataError when none can be read.
    """
    if limit < 1:
        raise UsageError(f"the limit is {limit}; expected 1 or more")
    train = samples.part("train")
    if len(train) > limit:
        drawn = np.random.default_rng(seed).choice(len(train), limit, replace=False)
        train = [train[k] for k in np.sort(drawn)]
    kept: list[Sample] = []
    parts: list[Floats] = []
    for start in range(0, len(train), _AT_ONCE):
        squares = []
        for sample in train[start : start + _AT_ONCE]:
            card = predictor.run.card
            try:
                squares.append(card.geometry.apply(samples.read(sample, card.channels, geometry=card.geometry)))
            except ImageError:
                continue  # training left it out, too, or stopped for it
            kept.append(sample)
        if squares:
            parts.extend(predictor.ask(np.stack(squares), ("embedding",)))
    if not parts:
        raise DataError(f"not one training picture of {samples.root} can be read")
    return Bank(unit(np.concatenate(parts)), tuple(kept))


def nearest(bank: Floats, embeddings: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """For N embeddings the ``count`` nearest of the bank (M, D) by cosine, nearest first: positions and cosines,
    (N, count); fewer where the bank is smaller. An embedding of zeros has a cosine of 0 with all.
    """
    cosines = unit(embeddings) @ unit(bank).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(cosines, order, axis=1)


@dataclass(frozen=True)
class Plane:
    """Principal components: ``center`` (D,), ``axes`` (2, D), ``shares`` (2,) of the variance that each axis shows."""

    center: Floats
    axes: Floats
    shares: tuple[float, float]

    def place(self, embeddings: Floats) -> Floats:
        """(N, D) → (N, 2)."""
        return ((embeddings - self.center) @ self.axes.T).astype(np.float32)


def plane(embeddings: Floats) -> Plane:
    """The plane that keeps most of the variance of (M, D): PCA by singular values. Each axis points to where its
    largest entry is positive, so that equal data give equal pictures. Fewer than three embeddings, or equal ones, have
    shares of 0 where there is nothing to show.
    """
    center = embeddings.mean(axis=0)
    _, values, found = np.linalg.svd(embeddings - center, full_matrices=False)
    shown = min(2, len(values))
    axes = np.zeros((2, embeddings.shape[1]), np.float32)
    axes[:shown] = found[:shown]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes *= np.where(largest < 0, -1, 1)
    total = float(((embeddings - center) ** 2).sum())
    shares = [float(value**2) / total if total > 0 else 0.0 for value in values[:shown]] + [0.0, 0.0]
    return Plane(center, axes, (shares[0], shares[1]))
