"""Cross-validation: one metric over k folds, and all out-of-fold answers together.

The standard deviation over folds says how much a score moves from fold to fold. Divided by √k it is no standard error:
the training parts overlap, so the folds' scores are dependent, and no unbiased estimate of their mean's variance exists
(Bengio and Grandvalet 2004, JMLR 5, 1089-1105). `corrected_t` is the usual remedy: Nadeau and Bengio 2003 (Machine
Learning 52, 239-281), section 4, put (1/k + n_test/n_train) s² in place of s²/k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.intervals import CORRECTED, Estimate
from resight.evaluation.report import Evaluation
from resight.evaluation.text import LABELS, NUMBERS, columns

MOST = {"log_loss": math.inf, "brier": 2.0}  # of all others 1


@dataclass(frozen=True)
class Spread:
    """One metric over k folds. ``values``: in the order of the folds. ``deviation``: their standard deviation, divided
    by k − 1. ``mean``: with the corrected 95 % interval.
    """

    values: tuple[float, ...]
    mean: Estimate
    deviation: float


@dataclass(frozen=True, eq=False)
class CrossEvaluation:
    """``pooled``: `evaluate` on all out-of-fold answers. ``folds``: of each metric that every fold has."""

    pooled: Evaluation
    folds: Mapping[str, Spread]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"folds": {name: asdict(spread) for name, spread in self.folds.items()}, "pooled": self.pooled.to_dict()}

    def to_text(self, max_classes: int = 20) -> str:
        """For a terminal: each metric over folds, then the pooled evaluation as `Evaluation.to_text` shows it."""
        rows = [["", "mean of folds", "± folds", "corrected 95 %", "lowest", "highest"]]
        for name, spread in self.folds.items():
            mean, values = spread.mean, spread.values
            numbers = (mean.value, spread.deviation, mean.low, mean.high, min(values), max(values))
            value, deviation, low, high, *ends = (f"{x:.3f}" if name in NUMBERS else f"{100 * x:.1f}" for x in numbers)
            title = LABELS.get(name, name.replace("top", "top-"))
            rows.append([title, value, deviation, f"[{low}, {high}]", *ends])
        widths = [max(columns(row[k]) for row in rows) for k in range(6)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        title = (
            f"{len(next(iter(self.folds.values())).values)} folds, in % but for log loss and Brier score"
            if self.folds
            else "folds"
        )
        return "\n".join([title, "", *lines, "", "pooled", self.pooled.to_text(max_classes)])


def over_folds(evaluations: Sequence[Evaluation], ratio: float) -> dict[str, Spread]:
    """Each metric that all ``evaluations`` have, in their order. ratio: pictures tested / learned from, of a fold.

    Raises UsageError as `corrected_t` does.
    """
    names = [name for name in evaluations[0].metrics if all(name in found.metrics for found in evaluations)]
    spreads = {}
    for name in names:
        values = [found.metrics[name].value for found in evaluations]
        mean = corrected_t(values, ratio, most=MOST.get(name, 1.0))
        spreads[name] = Spread(tuple(values), mean, float(np.std(values, ddof=1)))
    return spreads


def corrected_t(values: Sequence[float], ratio: float, *, least: float = 0.0, most: float = 1.0) -> Estimate:
    """The mean of ``values`` (k,), one a fold, with Nadeau and Bengio's corrected 95 % interval, cut at ``least`` and
    ``most``. ratio: n_test / n_train, 1 / (k − 1) for k folds without a validation part, more with one. Raises
    UsageError for k < 2 or a ratio not above 0.
    """
    k = len(values)
    if k < 2 or not ratio > 0:
        raise UsageError(f"{k} values and a ratio of {ratio} make no interval over folds")
    mean = float(np.mean(values))
    half = t_quantile(0.95, k - 1) * math.sqrt((1 / k + ratio) * float(np.var(values, ddof=1)))
    return Estimate(mean, min(mean, max(least, mean - half)), max(mean, min(most, mean + half)), CORRECTED)


def t_within(t: float, freedom: int) -> float:
    """The share of Student's t distribution within −t … t, by its finite sum for whole degrees of ``freedom``
    (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4). Raises UsageError for t < 0 or no degree of freedom.
    """
    if t < 0 or freedom < 1:
        raise UsageError(f"Student's t of {t} with {freedom} degrees of freedom is not defined")
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    # odd: cos θ (1 + 2/3 cos²θ + 2·4/(3·5) cos⁴θ + …); even: 1 + 1/2 cos²θ + 1·3/(2·4) cos⁴θ + …
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for j in range(1, (freedom - odd) // 2 + 1):
        total += term
        term *= cosine * cosine * (2 * j - 1 + odd) / (2 * j + odd)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_quantile(share: float, freedom: int) -> float:
    """The t with ``share`` (0 < share < 1) of Student's distribution within −t … t, by bisection to rounding."""
    if not 0 < share < 1:
        raise UsageError(f"{share} is not a share between 0 and 1")
    low, high = 0.0, 1.0
    while t_within(high, freedom) < share:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_within(middle, freedom) < share else (low, middle)
    return high
