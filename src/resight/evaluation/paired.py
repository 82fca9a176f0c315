"""Two networks on the same pictures: is the difference more than luck?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import DataError, UsageError
from resight.evaluation.intervals import NEWCOMBE, Estimate, wilson


@dataclass(frozen=True)
class Paired:
    """``n`` pictures by which of two networks is right. ``difference``: accuracy of the first minus that of the
    second, -1 … 1. ``p``: McNemar's exact test that both are right equally often; of a class corrected for the number
    of classes (Holm 1979). ``name``: the class, or empty for all pictures.
    """

    name: str
    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Comparison:
    """All pictures together, and those of each class that has some."""

    overall: Paired
    per_class: tuple[Paired, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided: the p value of the sign test on pictures that one alone has right
    (McNemar 1947; exact binomial, as ``scipy.stats.binomtest(only_first, both, 0.5)``). 1.0 where there are none.

    Raises UsageError for negative numbers.
    """
    if min(only_first, only_second) < 0:
        raise UsageError(f"{only_first} and {only_second} are not counts")
    total, least = only_first + only_second, min(only_first, only_second)
    term = tail = 1  # exact: whole numbers
    for k in range(1, least + 1):
        term = term * (total - k + 1) // k
        tail += term
    return float(min(1.0, 2 * tail / (1 << total)))


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, in their order, such that the chance of any below α by luck alone is at most α (Holm
    1979, Scandinavian Journal of Statistics 6, 65-70).
    """
    order = np.argsort(values, kind="stable")
    found, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = largest
    return found


def paired_difference(both: int, only_first: int, only_second: int, neither: int) -> Estimate:
    """The difference of two proportions of the same pictures, with the interval of Newcombe 1998 (Statistics in
    Medicine 17, 2635–2650), method 10: Wilson's of each, joined by their correlation. It has a width also where
    no picture tells the two apart. Raises UsageError unless the numbers are counts of one picture or more.
    """
    a, b, c, d = both, only_first, only_second, neither
    n = a + b + c + d
    if min(a, b, c, d) < 0 or not n:
        raise UsageError(f"{a}, {b}, {c} and {d} are not the counts of a pair")
    first, second = wilson(a + b, n), wilson(a + c, n)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    excess = float(a * d - b * c)
    if excess > 0:
        excess = max(excess - n / 2, 0)  # the paper's continuity correction of the correlation
    phi = excess / math.sqrt(margins) if margins else 0.0

    def distance(down: float, up: float) -> float:
        return math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0.0))

    value = (b - c) / n
    low = value - distance(first.value - first.low, second.high - second.value)
    high = value + distance(first.high - first.value, second.value - second.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0), NEWCOMBE)


def compare_answers(first: ArrayLike, second: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> Comparison:
    """Two networks' answers to the same pictures, in one order: all (N,) int, positions in ``classes``.

    Raises UsageError where the shapes do not fit, DataError for N = 0 and labels that are no classes.
    """
    ours, theirs, truth = (np.asarray(values) for values in (first, second, labels))
    if truth.ndim != 1 or not ours.shape == theirs.shape == truth.shape:
        raise UsageError(f"answers of shapes {ours.shape} and {theirs.shape} do not fit labels {truth.shape}")
    if not len(truth):
        raise DataError("no pictures to compare")
    if not 0 <= truth.min() <= truth.max() < len(classes):
        raise DataError(f"labels run from {truth.min()} to {truth.max()}, not within 0 … {len(classes) - 1}")
    right, other = ours == truth, theirs == truth
    rows = [(name, truth == k) for k, name in enumerate(classes)]
    each = [_pair(name, right[rows_], other[rows_]) for name, rows_ in rows if rows_.any()]
    corrected = zip(each, holm([pair.p for pair in each]), strict=True)
    return Comparison(_pair("", right, other), tuple(replace(pair, p=p) for pair, p in corrected))


def _pair(name: str, right: NDArray[np.bool_], other: NDArray[np.bool_]) -> Paired:
    n = len(right)
    both, one, two = (int(np.count_nonzero(x)) for x in (right & other, right & ~other, ~right & other))
    return Paired(
        name,
        n,
        both,
        one,
        two,
        n - both - one - two,
        wilson(both + one, n),
        wilson(both + two, n),
        paired_difference(both, one, two, n - both - one - two),
        mcnemar(one, two),
    )
