"""How much a network loses on corrupted pictures: accuracy by kind and severity, each beside the clean pictures.

ImageNet-C (Hendrycks and Dietterich 2019, section 4.1) divides each error by AlexNet's on the same corruption, so that
kinds of unequal difficulty weigh the same. Of other data there is no AlexNet, so nothing is divided by it here:

    mean corruption error        the mean of the errors over kinds and severities
    relative corruption error    the mean of error minus the clean error, that is the drop of accuracy

Pictures are the unit: all versions of one picture are drawn together when intervals are made, and drops are of the same
pictures, clean and corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError, UsageError
from resight.evaluation.corruptions import FAMILIES, SEVERITIES, table_of
from resight.evaluation.intervals import WILSON, Estimate, percentile, resampled_means, wilson
from resight.evaluation.text import FEW

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class KindResult:
    """One kind. ``accuracy`` for severities 1 … 5; ``mean`` over them; ``drop``: clean minus mean, both of accuracy."""

    kind: str
    accuracy: tuple[Estimate, ...]
    mean: Estimate
    drop: Estimate


@dataclass(frozen=True)
class Robustness:
    """What `summarise` found on ``n`` of ``available`` pictures. All in 0 … 1; drops may be negative.

    ``clean``: accuracy on the same pictures, unchanged. ``accuracy``: mean over all kinds and severities; ``drop``:
    clean minus that; ``retained``: that over clean, None where nothing was right. ``severities``: means over kinds, for
    1 … 5. ``confidence``: mean probability of the answers on clean pictures, then at severities 1 … 5. ``strengths``:
    whose parameters. ``seed``: of corruptions and choice.
    """

    n: int
    available: int
    size: int
    seed: int
    strengths: str
    clean: Estimate
    accuracy: Estimate
    drop: Estimate
    retained: Estimate | None
    severities: tuple[Estimate, ...]
    confidence: tuple[float, ...]
    kinds: tuple[KindResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: no NaN. With the mean corruption error, which is 1 minus ``accuracy``."""
        return asdict(self) | {
            "mean_corruption_error": _complement(self.accuracy),
            "relative_corruption_error": asdict(self.drop),
        }

    def to_text(self) -> str:
        """For a terminal of 100 columns: a row for each kind, a column for each severity."""
        of = f"all {self.n:,}" if self.n == self.available else f"{self.n:,} of {self.available:,}"
        lines = [
            f"Corruptions: {of} pictures at {self.size} px, {len(self.kinds)} kinds, 5 severities as in "
            f"{self.strengths}, seed {self.seed}"
        ]
        if self.n < FEW:
            lines.append(f"with fewer than {FEW} pictures the intervals of means and drops are too narrow")
        if self.n < self.available:
            lines.append("drawn in each class's proportion; all of them: --corruption-pictures all")
        head = "".join(f"{severity:>7}" for severity in SEVERITIES)
        lines += ["", f"{'accuracy, %':<16}{head}    mean [95 %]           drop, points [95 %]"]
        family = {kind: name for name, kinds in FAMILIES.items() for kind in kinds}
        before = family[self.kinds[0].kind]
        for result in self.kinds:
            if family[result.kind] != before:
                lines.append("")
                before = family[result.kind]
            cells = "".join(f"{100 * cell.value:>7.1f}" for cell in result.accuracy)
            row = f"{result.kind.replace('_', ' '):<16}{cells}   {_bounds(result.mean)}  {_bounds(result.drop)}"
            lines.append(row.rstrip())
        cells = "".join(f"{100 * cell.value:>7.1f}" for cell in self.severities)
        lines += ["", f"{'all kinds':<16}{cells}   {_bounds(self.accuracy)}  {_bounds(self.drop)}".rstrip()]
        cells = "".join(f"{100 * share:>7.1f}" for share in self.confidence[1:])
        mean = 100 * float(np.mean(self.confidence[1:]))
        lines.append(f"{'confidence':<16}{cells}   {mean:>5.1f}")
        lines += ["", *self._sentences()]
        return "\n".join(lines)

    def _sentences(self) -> list[str]:
        """What the table means, in words."""
        kept = "" if self.retained is None else f"; {_bounds(self.retained).strip()} % of it is kept"
        worst = max(self.kinds, key=lambda result: result.drop.value).kind.replace("_", " ")
        lines = [
            f"clean accuracy on these pictures {_bounds(self.clean).strip()} %{kept}",
            f"mean corruption error {_bounds(_flipped(self.accuracy)).strip()} %, not divided by AlexNet's",
        ]
        if len(self.kinds) > 1:
            lines.append(f"the largest drop is by {worst}")
        over = float(np.mean(self.confidence[1:])) - self.accuracy.value
        if over > 0.05:
            before = _hundredths(self.confidence[0] - self.clean.value)
            lines.append(
                f"confidence falls less than accuracy: {_hundredths(over)} points too high here, "
                f"{before} on clean pictures"
            )
        return lines


def summarise(
    clean: Bools,
    correct: Mapping[str, Bools],
    *,
    confidence: Sequence[float],
    available: int,
    size: int,
    seed: int = 0,
    resamples: int = 1000,
) -> Robustness:
    """``clean`` (N,) bool: which pictures are answered right; ``correct``: for each kind (5, N) bool, likewise.

    ``confidence``: six means, clean and for each severity. ``available``: how many pictures there were to choose from.
    ``size``: side of the square, in pixels. Raises UsageError for shapes that do not fit, DataError for N = 0.
    """
    if not len(clean):
        raise DataError("there are no pictures to corrupt")
    if not correct or any(hits.shape != (len(SEVERITIES), len(clean)) for hits in correct.values()):
        raise UsageError(f"expected (5, {len(clean)}) answers for at least one kind")
    if len(confidence) != 1 + len(SEVERITIES):
        raise UsageError(f"expected six means of confidence, found {len(confidence)}")
    hits = np.stack(list(correct.values())).astype(np.float64)  # (K, 5, N)
    # Columns: clean, all, five severities, each kind. One set of draws serves all, so that drops are paired.
    columns = np.column_stack([clean, hits.mean(axis=(0, 1)), hits.mean(axis=0).T, hits.mean(axis=1).T])
    values, drawn = columns.mean(axis=0), resampled_means(columns, seed=seed, resamples=resamples)
    drops, drawn_drops = values[:1] - values, drawn[:, :1] - drawn

    def mean(column: int) -> Estimate:
        return _never_certain(percentile(float(values[column]), drawn[:, column]), len(clean), 0.0)

    def drop(column: int) -> Estimate:
        return _never_certain(percentile(float(drops[column]), drawn_drops[:, column]), len(clean), -1.0)

    kinds = tuple(
        KindResult(kind, tuple(wilson(int(row.sum()), len(row)) for row in rows), mean(7 + k), drop(7 + k))
        for k, (kind, rows) in enumerate(correct.items())
    )
    return Robustness(
        n=len(clean),
        available=available,
        size=size,
        seed=seed,
        strengths=table_of(size),
        clean=wilson(int(clean.sum()), len(clean)),
        accuracy=mean(1),
        drop=drop(1),
        retained=_retained(values, drawn, len(clean)),
        severities=tuple(mean(2 + k) for k in range(len(SEVERITIES))),
        confidence=tuple(float(share) for share in confidence),
        kinds=kinds,
    )


def _never_certain(found: Estimate, n: int, least: float) -> Estimate:
    """Where all pictures are alike, resampling cannot vary: as wide as Wilson's interval of none out of ``n``."""
    if found.high > found.low:
        return found
    apart = wilson(0, n).high
    return Estimate(
        found.value, max(least, found.value - apart), min(max(1.0, found.value), found.value + apart), WILSON
    )


def _retained(values: NDArray[np.float64], drawn: NDArray[np.float64], n: int) -> Estimate | None:
    some = drawn[:, 0] > 0
    if not values[0] or not some.any():
        return None
    found = percentile(float(values[1] / values[0]), drawn[some, 1] / drawn[some, 0])
    return _never_certain(found, n, 0.0)


def _flipped(share: Estimate) -> Estimate:
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.method)


def _complement(share: Estimate) -> dict[str, Any]:
    return asdict(_flipped(share))


def _bounds(share: Estimate) -> str:
    value, low, high = (_hundredths(part) for part in (share.value, share.low, share.high))
    return f"{value:>5} {f'[{low}, {high}]':<15}"


def _hundredths(share: float) -> str:
    """With a true minus, and never −0.0."""
    return f"{round(100 * share, 1) + 0.0:.1f}".replace("-", "−")


def stratified(labels: NDArray[np.int64], wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Positions of ``wanted`` of N pictures, ascending, each class in its proportion: (min(wanted, N),) int64.

    Shares are rounded so that they add up (largest remainders, earlier classes first); within a class the choice is
    random. Raises UsageError for ``wanted`` below 1.
    """
    if wanted < 1:
        raise UsageError(f"{wanted} pictures are wanted; expected 1 or more")
    if wanted >= len(labels):
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    names, counts = np.unique(labels, return_counts=True)
    exact = counts * wanted / len(labels)
    take = np.floor(exact).astype(np.int64)
    short = np.argsort(take - exact, kind="stable")[: wanted - int(take.sum())]
    take[short] += 1
    chosen = [
        random.choice(np.flatnonzero(labels == name), number, replace=False)
        for name, number in zip(names, take, strict=True)
    ]
    positions: NDArray[np.int64] = np.sort(np.concatenate(chosen))
    return positions
