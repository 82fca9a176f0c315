"""What training pictures of the same labels share: the part of embeddings that ``unknown`` takes off before it measures
how pictures differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def class_means(rows: NDArray[Any], labels: NDArray[np.int64]) -> Doubles:
    """(K, D) means of the rows of each label 0 … K-1; zero where a label has none."""
    count = int(labels.max()) + 1
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums / np.maximum(np.bincount(labels, minlength=count), 1)[:, None]


def deviations(rows: NDArray[Any], labels: NDArray[Any]) -> tuple[Doubles, int]:
    """Rows (N, D) less what their labels say of them, float64, and how many directions that took, 1 or more.

    One label each, int64 (N,): less the mean of the class. Several, uint8 (N, K): less a mean and one part for each
    label that a picture has, by least squares; pictures of one label each would give the same.
    """
    exact = rows.astype(np.float64)
    if labels.ndim == 1:
        return exact - class_means(rows, labels)[labels], len(np.unique(labels))
    design = np.column_stack([np.ones(len(labels)), labels])
    parts, _, rank, _ = np.linalg.lstsq(design, exact, rcond=None)
    return exact - design @ parts, int(rank)


def strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """One number for each picture, by which a choice among them is balanced: its label, int64 (N,). Of several,
    uint8 (N, K), the one that fewest pictures have; K for a picture with none.
    """
    if labels.ndim == 1:
        return labels.astype(np.int64)
    counts = labels.sum(axis=0, dtype=np.int64)
    costs = np.where(labels > 0, counts, len(labels) + 1)
    rarest = costs.argmin(axis=1)
    found: NDArray[np.int64] = np.where(labels.any(axis=1), rarest, labels.shape[1])
    return found
