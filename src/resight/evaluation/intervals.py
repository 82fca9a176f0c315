"""95 % intervals: what a test part of this size can and cannot tell.

| metric | method |
|---|---|
| accuracy, top-k, precision, recall | Wilson's score interval of the proportion |
| F1 of one class | Wilson's, on the share TP / (TP + FP + FN), of which F1 is a monotone function |
| macro precision, recall, F1; AURC | Wilson's, effective number and bias by a bootstrap (see `resampled`) |
| log loss, Brier score | bootstrap over pictures, studentized (see `studentized`) |
| AUROC, average precision | Wilson's, with the effective number of pictures (see `effective`) |
| expected calibration error | bootstrap over pictures, reflected (see `calibration_interval`) |

The bootstrap is plain (Efron 1979): pictures are drawn with replacement, so the sizes of the classes vary
too. It is a function of the data and the seed. With few pictures (below about 30) it is too narrow.

Every interval contains its value: where a skewed bootstrap would leave the value out, the interval is
stretched to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import DataError, UsageError
from resight.evaluation.metrics import Floats, Ints, from_margins, macro, macro_means

Z95 = 1.959963984540054  # the 0.975 quantile of the standard normal distribution
RESAMPLES = 1000
BLOCK = 1 << 22  # numbers in memory at a time while resampling: 32 MiB

WILSON = "wilson"
BOOTSTRAP = "bootstrap"
EFFECTIVE = "wilson-effective"
STUDENTIZED = "bootstrap-t"
NEWCOMBE = "newcombe"
CORRECTED = "corrected-t"
JACKKNIFE = "jackknife"


@dataclass(frozen=True)
class Estimate:
    """A value in its 95 % interval: ``low`` ≤ ``value`` ≤ ``high``.

    ``method``: "wilson", "bootstrap", "wilson-effective", "bootstrap-t"; of differences "newcombe" and
    "jackknife", of means over folds "corrected-t".
    """

    value: float
    low: float
    high: float
    method: str


def wilson(hits: float, seen: float, z: float = Z95) -> Estimate:
    """Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    Honest at the ends, where the textbook interval has no width: 20 of 20 gives [0.839, 1]. ``hits`` and
    ``seen`` may be effective (fractional) numbers. Raises UsageError unless 0 ≤ hits ≤ seen and seen > 0.
    """
    if not 0 <= hits <= seen or seen <= 0:
        raise UsageError(f"{hits} of {seen} is not a proportion")
    share = hits / seen
    middle = hits + z * z / 2
    spread = z * math.sqrt(hits * (1 - share) + z * z / 4)
    low, high = (middle - spread) / (seen + z * z), (middle + spread) / (seen + z * z)
    # At 0 and 1 the formula ends there exactly; rounding must not.
    return Estimate(share, 0.0 if hits == 0 else min(low, share), 1.0 if hits == seen else max(high, share), WILSON)


def effective(value: float, variance: float, most: float) -> Estimate:
    """Wilson's interval of a mean in 0 … 1 whose ``variance`` is known: that of a proportion of as many pictures as
    would have this variance, v(1 - v) / variance, but at least one and no more than ``most``.

    The effective sample size of surveys (Korn and Graubard 1998; Dean and Pagano 2015). Unlike a bootstrap it stays
    inside of the range, leans to the middle as a skewed mean does, and has a width where all is right.
    """
    share = min(max(value, 0.0), 1.0)  # rounding
    spread = share * (1 - share)
    number = max(min(spread / variance, most), 1.0) if spread > 0 and variance > 0 else most
    found = wilson(share * number, number)
    return Estimate(share, found.low, found.high, EFFECTIVE)


def resampled(value: float, drawn: Floats, most: float) -> Estimate:
    """`effective` with the variance of ``drawn`` (R,) resampled values, about the value less its bias, which is what
    the resamples are further off still: F1 of classes with few pictures, and so its mean, is too low on average. Their
    percentiles have this bias twice. Stretched to contain ``value``, in 0 … 1.
    """
    found = effective(2 * value - float(drawn.mean()), float(drawn.var()), most)
    return Estimate(value, min(found.low, value), max(found.high, value), EFFECTIVE)


def studentized(values: ArrayLike, means: Floats, squares: Floats, most: float = math.inf) -> Estimate:
    """The bootstrap-t interval of a mean (Efron 1981; Davison and Hinkley 1997, section 2.4): it follows skew, as of
    losses, where percentiles fall short.

    ``values`` (N,) in 0 … ``most``; ``means`` and ``squares`` (R,): the means of resampled values and of their squares.
    Resamples without spread say nothing and are left out.
    """
    own = np.asarray(values, dtype=np.float64)
    mean, error = float(own.mean()), float(own.std() / math.sqrt(len(own)))
    spread = np.sqrt(np.maximum(squares - means**2, 0) / len(own))
    varied = spread > 1e-9 * max(abs(mean), 1e-300)
    if error == 0 or not varied.any():
        return Estimate(mean, mean, mean, STUDENTIZED)
    low, high = np.quantile((means[varied] - mean) / spread[varied], (0.025, 0.975))
    least, largest = max(mean - float(high) * error, 0.0), min(mean - float(low) * error, most)
    return Estimate(mean, min(least, mean), max(largest, mean), STUDENTIZED)


def f1_interval(right: int, answered: int, support: int) -> Estimate:
    """F1 of one class from its correct answers, the answers given and the pictures there are.

    F1 = 2J / (1 + J) with J = TP / (TP + FP + FN), a proportion of the pictures that are of this class or
    were taken for it; Wilson's interval of J is carried over (the "Wilson indirect" method of Lam, Gopal and
    Qian 2023, arXiv:2309.14621). Unlike a bootstrap it keeps its width where no mistake was seen. Raises
    UsageError where F1 is undefined (answered + support = 0).
    """
    share = wilson(right, answered + support - right)
    low, value, high = (2 * j / (1 + j) for j in (share.low, share.value, share.high))
    return Estimate(value, low, high, WILSON)


def macro_intervals(matrix: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Intervals of "macro_precision", "macro_recall", "macro_f1" of a (C, C) confusion matrix (rows = true).

    Drawing N pictures with replacement is drawing the cells of the matrix from a multinomial distribution.
    Each resample averages over the classes that occur in it. Where every picture is right, or every one
    wrong, resampling cannot vary; Wilson's interval is used with the number of pictures that a balanced part
    as informative would have, K² / Σ(1/n) over the K classes' sizes n. Raises UsageError and DataError as
    `metrics.macro` does.
    """
    means = macro(matrix)
    values = {"macro_precision": means.precision, "macro_recall": means.recall, "macro_f1": means.f1}
    cells = np.asarray(matrix, dtype=np.int64)
    right = int(np.trace(cells))
    sizes = cells.sum(axis=1)
    balanced = float(np.count_nonzero(sizes) ** 2 / (1 / sizes[sizes > 0]).sum())
    if right in (0, int(cells.sum())):
        return dict.fromkeys(values, wilson(balanced if right else 0.0, balanced))
    drawn = _resampled_macro(cells, seed, resamples)
    return {name: resampled(value, row, balanced) for (name, value), row in zip(values.items(), drawn, strict=True)}


def resampled_means(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Means over ``resamples`` draws of N rows with replacement: (N, D) real → (resamples, D) float64.

    Time grows with N · resamples (about a second for fifty million); memory does not grow beyond a few
    blocks. Raises DataError for N = 0, UsageError if ``values`` is not 2-D.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise UsageError(f"values to resample must be (N, D), not {rows.shape}")
    if not len(rows):
        raise DataError("nothing to resample")
    n, random = len(rows), np.random.default_rng(seed)
    out = np.empty((resamples, rows.shape[1]))
    for start, stop in _blocks(resamples, n):
        picks = random.integers(0, n, size=(stop - start, n))
        picks += np.arange(stop - start)[:, None] * n
        times = np.bincount(picks.ravel(), minlength=(stop - start) * n).reshape(-1, n)
        out[start:stop] = times.astype(np.float64) @ rows / n
    return out


def percentile(value: float, drawn: Floats) -> Estimate:
    """The middle 95 % of (R,) resampled values, stretched to contain ``value``."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value), BOOTSTRAP)


def calibration_interval(error: float, drawn: Floats, chance: Floats) -> Estimate:
    """The interval of an expected calibration error: a sum of absolute values, which noise only ever raises.

    ``drawn`` (R,) are the errors of bootstrap resamples. They are noisier still, so their percentiles lie
    above the truth. Reflected about ``error`` they take off what noise had added (Davison and Hinkley 1997,
    the "basic" interval of section 5.2.1); cut at 0, stretched to contain ``error``. ``chance`` (D,) are
    errors of perfect calibration on as many pictures (`calibration.chance_errors`): where ``error`` is within
    their lower 97.5 %, nothing speaks against perfect calibration, and ``low`` is 0.

    Measured (two classes, 300 repeats, true errors of 0, 0.03 and 0.1, 50 to 1000 pictures): it contains the
    truth in 86 to 99 % of the repeats, plain percentiles in 0 to 94 %.
    """
    low, high = np.quantile(drawn, (0.025, 0.975))
    plain = error <= np.quantile(chance, 0.975)
    least = 0.0 if plain else min(max(0.0, 2 * error - float(high)), error)
    return Estimate(error, least, max(2 * error - float(low), error), BOOTSTRAP)


def _resampled_macro(cells: Ints, seed: int, resamples: int) -> Floats:
    """(3, resamples) macro precision, recall and F1 of multinomial redraws of a (C, C) confusion matrix."""
    true, answered = np.nonzero(cells)  # ordered by true class
    counts = cells[true, answered]
    n, random = int(counts.sum()), np.random.default_rng(seed)
    columns = np.argsort(answered, kind="stable")
    out = np.empty((3, resamples))
    for start, stop in _blocks(resamples, len(counts)):
        drawn = random.multinomial(n, counts / n, size=stop - start)
        right = np.zeros((stop - start, len(cells)), dtype=np.int64)
        right[:, true[true == answered]] = drawn[:, true == answered]
        each = from_margins(
            right,
            answered=_sums(drawn[:, columns], answered[columns], len(cells)),
            support=_sums(drawn, true, len(cells)),
        )
        out[:, start:stop] = macro_means(each)
    return out


def _sums(drawn: Ints, groups: Ints, classes: int) -> Ints:
    """Sums of the columns of ``drawn`` (R, K) by their sorted ``groups`` (K,): (R, classes) int64."""
    names, starts = np.unique(groups, return_index=True)
    sums = np.zeros((len(drawn), classes), dtype=np.int64)
    sums[:, names] = np.add.reduceat(drawn, starts, axis=1)
    return sums


def _blocks(resamples: int, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of resamples that hold at most BLOCK numbers, ``width`` a resample."""
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, resamples, step):
        yield start, min(start + step, resamples)
