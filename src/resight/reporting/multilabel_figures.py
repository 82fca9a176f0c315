"""Plots of the page for any number of labels, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resight.evaluation import Estimate
from resight.evaluation.metrics import Floats, Ints
from resight.evaluation.multilabel import LabelResult
from resight.reporting.figures import BLUE, LINE, NUMBERED, ORANGE, PER_CLASS_INCH, SOFT, name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4


def precision_recall(classes: Sequence[tuple[LabelResult, Floats, NDArray[np.bool_]]]) -> Figure:
    """A curve for each of one class or more, with its probabilities (N,) and which pictures have it (N,) bool; a dot at
    its threshold, a dashed line at the share of pictures that have it.
    """
    columns = min(COLUMNS, len(classes))
    rows = -(-len(classes) // columns)
    figure = _figure(2.3 * columns + 0.4, 2.1 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(classes) :]:
        axes.set_visible(False)
    for axes, (result, chances, own) in zip(grid.ravel(), classes, strict=False):
        recall, precision = curve(chances, own)
        axes.step(100 * recall, 100 * precision, where="pre", color=BLUE, linewidth=1.4)
        axes.axhline(100 * own.mean(), color=SOFT, linewidth=0.9, linestyle="--")
        if result.precision is not None and result.recall is not None:
            axes.plot(100 * result.recall.value, 100 * result.precision.value, "o", color=ORANGE, markersize=5)
        average = result.average_precision.value if result.average_precision else float("nan")
        axes.set_title(f"{name_of(result.name, 20)}: {100 * average:.1f}", fontsize=9, parse_math=False)
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 102)
        axes.grid(color=LINE, linewidth=0.6)
        axes.tick_params(labelsize=8)
    figure.supxlabel("recall in %", fontsize=9)
    figure.supylabel("precision in %", fontsize=9)
    return figure


def curve(chances: Floats, own: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Recall and precision at each distinct probability, from the highest on: (M,) float64 each, in 0 … 1."""
    order = np.argsort(-chances, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chances[order])), len(chances) - 1)
    right = np.cumsum(own[order])[ends]
    return right / max(1, int(own.sum())), right / (ends + 1)


def average_precisions(names: Sequence[str], scores: Sequence[Estimate], rates: Sequence[float]) -> Figure:
    """Average precision of each class with its 95 % interval, the lowest at the top; a tick where chance would be."""
    figure = _figure(6.4, 0.24 * len(names) + 0.9)
    axes = figure.subplots()
    places = np.arange(len(names))
    values: Floats = np.array([[100 * e.value, 100 * (e.value - e.low), 100 * (e.high - e.value)] for e in scores])
    axes.errorbar(values[:, 0], places, xerr=values[:, 1:].T, fmt="o", markersize=4, color=BLUE, linewidth=1.2)
    axes.plot(100 * np.array(rates), places, "|", color=SOFT, markersize=9, markeredgewidth=1.5)
    axes.set_yticks(places, [name_of(name, 30) for name in names], fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100.5)
    axes.set_xlabel("average precision in %, with its 95 % interval; grey: by chance")
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return figure


def answered_together(together: Ints, supports: Ints, names: Sequence[str]) -> Figure:
    """(K, K) pictures that have the class of the row and were answered with that of the column, as a share of the
    ``supports`` (K,) of the row; in percent where they fit.
    """
    count = len(names)
    side = max(4.5, count * (0.42 if count <= NUMBERED else PER_CLASS_INCH)) + 1.8
    figure = _figure(side, side)
    axes = figure.subplots()
    share = together / np.maximum(supports, 1)[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    labels = [name_of(name, 22) for name in names]
    size = 9 if count <= NUMBERED else 8
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("answered, among others")
    axes.set_ylabel("there, among others")
    if count <= NUMBERED:
        for row, column in np.ndindex(share.shape):
            if supports[row]:
                colour = "white" if share[row, column] > 0.6 else "black"
                text = f"{100 * share[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
