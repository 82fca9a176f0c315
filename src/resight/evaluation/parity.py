"""Does another form of a network answer the same? The measure every exported artefact must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError

TOLERANCE = 1e-4  # in probability; room for float32 sums in another order, and no more


@dataclass(frozen=True)
class Parity:
    """How two forms of a network agree on the same ``n`` pictures.

    ``decided`` counts the pictures whose two best classes are further apart than the tolerance (of the first
    form), and ``top1_agreement`` is the share of these with the same best class in both (1 if none is
    decided). ``max_abs`` and ``mean_abs`` are differences of probabilities over all pictures and classes,
    infinite where the second form answers with something that is no number. ``passed``: no difference beyond
    the tolerance, and all decided pictures agree.
    """

    n: int
    top1_agreement: float
    max_abs: float
    mean_abs: float
    decided: int
    passed: bool


def compare(probabilities_a: ArrayLike, probabilities_b: ArrayLike, tolerance: float = TOLERANCE) -> Parity:
    """Compare a reference ``a`` with another form ``b``: both (N, C) float in 0 … 1, in one order.

    Raises UsageError where shapes or types do not fit or the tolerance is negative, DataError for N = 0 or a
    reference that is not probabilities. A ``b`` that is not probabilities is a finding, not an error.
    """
    reference, other = _table(probabilities_a), _table(probabilities_b)
    if reference.shape != other.shape:
        raise UsageError(f"cannot compare probabilities of shapes {reference.shape} and {other.shape}")
    if not tolerance >= 0:
        raise UsageError(f"the tolerance must be 0 or more, not {tolerance}")
    if not len(reference):
        raise DataError("no pictures to compare", hint="parity needs at least one picture")
    if not (reference.min() >= 0 and reference.max() <= 1 + 1e-6):
        raise DataError("the reference must be probabilities in 0 … 1", hint="pass softmax(logits), not logits")

    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(other), axis=1)
    difference = np.abs(reference - np.where(finite[:, None], other, np.inf))
    decided = _lead(reference) > tolerance
    same = np.equal(reference.argmax(axis=1), other.argmax(axis=1)) & finite
    largest, decisions, agreements = float(difference.max()), int(decided.sum()), int((decided & same).sum())
    return Parity(
        n=len(reference),
        top1_agreement=agreements / decisions if decisions else 1.0,
        max_abs=largest,
        mean_abs=float(difference.mean()),
        decided=decisions,
        passed=largest <= tolerance and agreements == decisions,
    )


def _lead(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the best class of each row is ahead of the second best; infinite if there is only one class."""
    if table.shape[1] == 1:
        return np.full(len(table), np.inf)
    two = np.partition(table, -2, axis=1)
    lead: NDArray[np.float64] = two[:, -1] - two[:, -2]
    return lead


def _table(values: ArrayLike) -> NDArray[np.float64]:
    table: NDArray[Any] = np.asarray(values)
    if table.ndim != 2 or table.shape[1] == 0 or table.dtype.kind not in "fiu":
        raise UsageError(f"probabilities must be (N, C) numbers, not {table.shape} {table.dtype}")
    return table.astype(np.float64, copy=False)
