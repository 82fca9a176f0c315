"""Test-time augmentation: one answer from several views of a picture, what it gains, and what it costs.

The probabilities of all views are averaged (arithmetic mean, after temperature), as Krizhevsky et al. 2012, section
4.1, do with mirrored and shifted crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import UsageError
from resight.evaluation.calibration import calibration_gaps
from resight.evaluation.intervals import Estimate, percentile, resampled_means
from resight.evaluation.metrics import Floats, checked, losses, softmax
from resight.evaluation.report import Evaluation, evaluate

Views = Literal["flip", "flip+shift"]
VIEWS: Mapping[str, int] = {"flip": 2, "flip+shift": 10}
SHIFT = 1 / 16
"""By how much views are shifted, as a share of the side: 14 pixels of 224, 2 of 32."""

_TINY = 1e-300  # a probability whose logarithm is finite
_ROWS = (("accuracy", "accuracy, %", 100, 1), ("log_loss", "log loss", 1, 3), ("ece", "calibration error, %", 100, 1))


@dataclass(frozen=True, eq=False)
class Augmented:
    """Test-time augmentation beside one view, on the same pictures.

    ``evaluation``: with all views; ``differences``: accuracy, log_loss (nats) and ece, with minus without, paired.
    ``fixed`` and ``broken``: pictures that only the views, or only the single view, answer right. ``seconds`` and
    ``plain_seconds``: reading the pictures and answering, with all views and with one.
    """

    views: str
    evaluation: Evaluation
    plain: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    fixed: int
    broken: int
    seconds: float
    plain_seconds: float
    note: str = ""

    @property
    def cost(self) -> float:
        """How many times the time of one view."""
        return self.seconds / self.plain_seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "views": self.views,
            "count": VIEWS[self.views],
            "mean": "arithmetic, of the probabilities",
            "evaluation": self.evaluation.to_dict(),
            "differences": {name: asdict(estimate) for name, estimate in self.differences.items()},
            "fixed": self.fixed,
            "broken": self.broken,
            "seconds": self.seconds,
            "plain_seconds": self.plain_seconds,
            "cost": self.cost,
            "note": self.note,
        }

    def to_text(self) -> str:
        """For a terminal: what it costs and gains, in one line, and the numbers behind it."""
        gain = self.differences["accuracy"]
        lines = [
            f"Test-time augmentation: {VIEWS[self.views]} views ({self.views}), the mean of their probabilities",
            f"{self.cost:.1f}x the time for {_signed(gain, 100, 1)} points of accuracy"
            + ("" if gain.low > 0 or gain.high < 0 else ": no difference is shown"),
        ]
        if self.note:
            lines.append(f"note: {self.note}")
        lines += ["", f"{'':<20}{'one view':>10}{'all views':>11}   difference"]
        for name, label, factor, digits in _ROWS:
            one, views = self.plain[name].value * factor, self.evaluation.metrics[name].value * factor
            change = _signed(self.differences[name], factor, digits)
            lines.append(f"{label:<20}{one:>10.{digits}f}{views:>11.{digits}f}   {change}")
        before, after = (1000 * spent / self.evaluation.n for spent in (self.plain_seconds, self.seconds))
        lines += [
            "",
            f"{self.fixed:,} mistakes are put right, {self.broken:,} right answers are lost; "
            f"{before:.2f} → {after:.2f} ms a picture",
        ]
        return "\n".join(lines)


def views_of(pixels: NDArray[np.uint8], views: str) -> Iterator[NDArray[np.uint8]]:
    """Of uint8 (N, S, S, C) each view in turn, likewise; the first is the picture itself.

    ``flip``: and mirrored left to right. ``flip+shift``: and both shifted to the four corners by ``SHIFT`` of the side,
    at least a pixel, the edge repeated.
    """
    if views not in VIEWS:
        raise UsageError(f"there are no views {views!r}", hint=f"views: {', '.join(VIEWS)}")
    side = pixels.shape[1]
    by = max(1, round(side * SHIFT))
    places = [(0, 0)] if views == "flip" else [(0, 0), (-by, -by), (-by, by), (by, -by), (by, by)]
    rows = np.arange(side)
    for down, right in places:
        y, x = np.clip(rows - down, 0, side - 1), np.clip(rows - right, 0, side - 1)
        shifted = pixels if not (down or right) else pixels[:, y][:, :, x]
        yield np.ascontiguousarray(shifted)
        yield np.ascontiguousarray(shifted[:, :, ::-1])


def mean_logits(logits: Sequence[ArrayLike]) -> Floats:
    """(N, C) float64: logarithms of the mean of the views' probabilities, of each view's calibrated logits (N, C)."""
    mean = sum(softmax(view) for view in logits) / len(logits)
    found: Floats = np.log(np.maximum(mean, _TINY))
    return found


def compare_views(
    plain: ArrayLike,
    logits: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    views: str,
    seconds: float,
    plain_seconds: float,
    note: str = "",
    seed: int = 0,
) -> Augmented:
    """``plain`` and ``logits``: (N, C) calibrated logits with one view, and of the mean (`mean_logits`).

    Differences are resampled over pictures, one set of draws for all. Raises what `evaluate` raises.
    """
    scores = [checked(rows, labels) for rows in (plain, logits)]
    targets = scores[0][1]
    right = [rows.argmax(axis=1) == targets for rows, _ in scores]
    loss = [losses(rows, targets) for rows, _ in scores]
    gaps = [calibration_gaps(softmax(rows), targets) for rows, _ in scores]
    bins = gaps[0].shape[1]
    columns = np.column_stack([right[1].astype(np.float64) - right[0], loss[1] - loss[0], *gaps])
    values, drawn = columns.mean(axis=0), resampled_means(columns, seed=seed)

    def ece(means: Floats) -> Floats:
        before, after = np.abs(means[..., 2 : 2 + bins]).sum(-1), np.abs(means[..., 2 + bins :]).sum(-1)
        found: Floats = after - before
        return found

    return Augmented(
        views=views,
        evaluation=evaluate(logits, labels, classes, seed=seed),
        plain=evaluate(plain, labels, classes, seed=seed).metrics,
        differences={
            "accuracy": percentile(float(values[0]), drawn[:, 0]),
            "log_loss": percentile(float(values[1]), drawn[:, 1]),
            "ece": percentile(float(ece(values)), ece(drawn)),
        },
        fixed=int((right[1] & ~right[0]).sum()),
        broken=int((right[0] & ~right[1]).sum()),
        seconds=seconds,
        plain_seconds=plain_seconds,
        note=note,
    )


def _signed(change: Estimate, factor: float, digits: int) -> str:
    value, low, high = (f"{factor * part:+.{digits}f}" for part in (change.value, change.low, change.high))
    return f"{value} [{low}, {high}]".replace("-", "−")
