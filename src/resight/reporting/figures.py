"""The plots of the report, as matplotlib figures. Names of strangers are text only: no formula is read in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.evaluation import Estimate, Reliability, RiskCoverage, wilson
from resight.evaluation.metrics import Floats, Ints
from resight.images import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, RED, SOFT, LINE = "#1f5fbf", "#c46a00", "#b3261e", "#5b636d", "#dfe3e8"
NUMBERED = 20  # a confusion matrix of no more classes shows its counts
PER_CLASS_INCH = 0.16  # 100 classes: 16 inches, text of 8 points


def confusion_matrix(matrix: Ints, names: Sequence[str]) -> Figure:
    """A (C, C) confusion matrix, rows = true. Colour: the share of the row's pictures; the counts where they fit."""
    count = len(names)
    side = max(4.5, count * (0.42 if count <= NUMBERED else PER_CLASS_INCH)) + 1.8
    figure = _figure(side, side)
    axes = figure.subplots()
    support = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, support, out=np.zeros(matrix.shape), where=support > 0)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1, aspect="equal")  # rare mistakes must be visible
    labels = [name_of(name, 22) for name in names]
    size = 9 if count <= NUMBERED else 8
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LINE, linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        if count <= NUMBERED or row != column:
            dark = share[row, column] > 0.3
            text = f"{matrix[row, column]:,}" if count <= NUMBERED or matrix[row, column] < 100 else "…"
            small = (8 if matrix[row, column] < 1000 else 7) if count <= NUMBERED else 5.5
            axes.text(column, row, text, ha="center", va="center", fontsize=small, color="white" if dark else "black")
    return figure


def reliability_diagram(before: Reliability | None, after: Reliability) -> Figure:
    """Accuracy by confidence with Wilson's intervals, and how many pictures there are; without and with temperature."""
    parts = [("before temperature scaling", before)] if before else []
    parts += [("as answered, after temperature scaling" if before else "as answered", after)]
    figure = _figure(4.2 * len(parts), 4.6)
    grid = figure.subplots(2, len(parts), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
    for column, (title, bins) in enumerate(parts):
        _reliability(grid[0, column], grid[1, column], bins)
        grid[0, column].set_title(f"{title}\nECE {100 * bins.error:.1f} %", fontsize=10)
    grid[0, 0].set_ylabel("share that is right")
    grid[1, 0].set_ylabel("pictures")
    return figure


def _reliability(top: Axes, bottom: Axes, bins: Reliability) -> None:
    number = len(bins.count)
    places, full = (np.arange(number) + 0.5) / number, bins.count > 0
    found = [wilson(a * n, n) for a, n in zip(bins.accuracy[full], bins.count[full], strict=True)]
    top.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    top.bar(places[full], bins.accuracy[full], 0.9 / number, color=BLUE, alpha=0.35)
    values = np.array([(e.value - e.low, e.high - e.value) for e in found]).T
    top.errorbar(
        bins.confidence[full], bins.accuracy[full], yerr=values, fmt="o", markersize=4, color=BLUE, linewidth=1.2
    )
    top.set_ylim(0, 1.02)
    top.set_xlim(0, 1)
    bottom.bar(places, bins.count, 0.9 / number, color=SOFT)
    bottom.set_yscale("symlog", linthresh=1)
    bottom.set_ylim(0, float(bins.count.max()) * 6)
    for place, count in zip(places[full], bins.count[full], strict=True):
        bottom.text(place, count * 1.25, f"{count:,}", ha="center", va="bottom", fontsize=6.5, rotation=90)
    bottom.set_xlabel("confidence")


def risk_coverage_curve(curve: RiskCoverage, aims: Mapping[float, tuple[float, float]]) -> Figure:
    """Accuracy of the answers that are given, by the share of pictures that are answered. ``aims``: see ``AIMS``."""
    figure = _figure(5.2, 3.6)
    axes = figure.subplots()
    axes.plot(curve.coverage, 1 - curve.risk, color=BLUE, linewidth=1.6)
    for accuracy, (coverage, _) in aims.items():
        if coverage > 0:
            axes.plot(coverage, accuracy, "o", color=ORANGE, markersize=5)
            axes.annotate(
                f"{100 * accuracy:.0f} % right\non {100 * coverage:.0f} %",
                (coverage, accuracy),
                xytext=(-8, -10),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
                color=ORANGE,
            )
    axes.set_xlim(0, 1.01)
    axes.set_ylim(max(0.0, float((1 - curve.risk).min()) - 0.08), 1.005)
    axes.set_xlabel("share of pictures that are answered")
    axes.set_ylabel("share of answers that are right")
    axes.grid(color=LINE, linewidth=0.6)
    return figure


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy by epoch, from the lines of metrics.jsonl."""
    figure = _figure(8.4, 3.2)
    for axes, name, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        for part, colour in (("train", SOFT), ("val", BLUE)):
            points = [(e["epoch"], e[f"{part}_{name}"]) for e in history if isinstance(e.get(f"{part}_{name}"), float)]
            if points:
                x, y = np.array(points, np.float64).T
                marker = "o" if len(points) < 3 else ""
                axes.plot(x, y * factor, color=colour, label=part, linewidth=1.4, marker=marker)
        axes.set_xlabel("epoch")
        axes.set_title(name + (" in %" if factor == 100 else ""), fontsize=10)
        axes.grid(color=LINE, linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return figure


def class_scores(names: Sequence[str], scores: Sequence[Estimate], what: str = "F1") -> Figure:
    """``what`` (a share) of each class, or of whatever has ``names``, with its 95 % interval, the first at the top."""
    figure = _figure(6.4, 0.24 * len(names) + 0.9)
    axes = figure.subplots()
    places = np.arange(len(names))
    values: Floats = np.array([[100 * e.value, 100 * (e.value - e.low), 100 * (e.high - e.value)] for e in scores])
    axes.errorbar(values[:, 0], places, xerr=values[:, 1:].T, fmt="o", markersize=4, color=BLUE, linewidth=1.2)
    axes.set_yticks(places, [name_of(name, 30) for name in names], fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(min(95.0, float((values[:, 0] - values[:, 1]).min()) - 2), 100.5)
    axes.set_xlabel(f"{what} in %, with its 95 % interval")
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return figure


def name_of(name: str, width: int) -> str:
    """A name for a plot: nothing invisible, no longer than ``width``: beginnings say more than ends."""
    shown = printable(name, 4 * width)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
