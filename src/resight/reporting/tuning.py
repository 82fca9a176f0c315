"""Plots of a search: its trials and what they say of each dimension; and the curve of the learning-rate finder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.reporting.figures import BLUE, LINE, ORANGE, RED, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3


def study_figure(found: Mapping[str, Any], kinds: Mapping[str, str]) -> Figure:
    """Scores by trial and epoch by epoch above, one slice for each dimension below.

    found: ``resight.tuning.findings.findings``. kinds: field → log, linear, whole or choice.
    """
    from matplotlib.figure import Figure

    rows = -(-len(kinds) // _COLUMNS)
    figure = Figure(figsize=(11, 3.6 + 2.6 * rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.4, 2.6 * rows))[:, 0]
    history, curves = top.subplots(1, 2, squeeze=False)[0]
    share = found["objective"] == "accuracy"
    factor, name = (100, f"validation {found['score']} in %") if share else (1, "validation loss")
    _history(history, found, factor, name)
    _curves(curves, found, factor)
    grid = bottom.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, (field, kind) in zip(grid, kinds.items(), strict=False):
        _slice(axes, found, field, kind, factor)
    for axes in grid[len(kinds) :]:
        axes.set_visible(False)
    for axes in grid[::_COLUMNS]:
        axes.set_ylabel(name)
    return figure


def _complete(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in found["trials"] if row["state"] == "complete"]


def _history(axes: Axes, found: Mapping[str, Any], factor: float, name: str) -> None:
    rows = _complete(found)
    scores = [factor * row["score"] for row in rows]
    numbers = [row["number"] for row in rows]
    better = np.maximum if found["objective"] == "accuracy" else np.minimum
    axes.plot(numbers, scores, "o", color=BLUE, markersize=5, label="complete")
    if scores:
        axes.step(numbers, better.accumulate(scores), where="post", color=SOFT, linewidth=1.2, label="best so far")
    stopped = [row for row in found["trials"] if row["state"] != "complete"]
    if stopped:
        last = [factor * row["curve"][-1] if row["curve"] else np.nan for row in stopped]
        axes.plot([row["number"] for row in stopped], last, "x", color=ORANGE, markersize=5, label="stopped early")
    if found["best"]:
        best = found["best"]
        axes.plot(best["number"], factor * best["score"], "o", markersize=11, markerfacecolor="none", color=RED)
    axes.set_xlabel("trial")
    _whole_numbers(axes)
    axes.set_ylabel(name)
    axes.grid(color=LINE, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="lower right" if factor == 100 else "upper right")


def _curves(axes: Axes, found: Mapping[str, Any], factor: float) -> None:
    """Best so far, epoch by epoch: what pruning compared."""
    best = found["best"]["number"] if found["best"] else None
    for row in found["trials"]:
        colour = RED if row["number"] == best else BLUE if row["state"] == "complete" else ORANGE
        wide, above = (1.8, 3) if row["number"] == best else (0.8, 2)
        epochs = range(row["first_epoch"], row["first_epoch"] + len(row["curve"]))
        marker = "." if len(epochs) == 1 else ""
        scores = [factor * value for value in row["curve"]]
        axes.plot(epochs, scores, marker=marker, color=colour, linewidth=wide, zorder=above)
    axes.set_xlabel("epoch")
    _whole_numbers(axes)
    axes.grid(color=LINE, linewidth=0.6)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _slice(axes: Axes, found: Mapping[str, Any], field: str, kind: str, factor: float) -> None:
    """Scores by the values of one field; the recipe's own as a line."""
    rows = _complete(found)
    values, scores = [row["values"][field] for row in rows], [factor * row["score"] for row in rows]
    axes.scatter(
        values, scores, c=[row["number"] for row in rows], cmap="Blues", vmin=-8, edgecolors=SOFT, s=34, zorder=3
    )
    if found["best"]:
        best = found["best"]
        axes.scatter(
            [best["values"][field]], [factor * best["score"]], s=120, facecolors="none", edgecolors=RED, zorder=4
        )
    stopped = [row["values"][field] for row in found["trials"] if row["state"] != "complete"]
    if stopped:  # their scores do not compare; where they were does
        axes.plot(stopped, [0.03] * len(stopped), "x", color=ORANGE, markersize=5, transform=axes.get_xaxis_transform())
    if kind == "log":
        axes.set_xscale("log")
    own = next((row for row in found["trials"] if row["number"] == 0), None)
    if own:
        axes.axvline(own["values"][field], color=SOFT, linewidth=1, linestyle="--")
    axes.set_xlabel(field, parse_math=False)
    axes.grid(color=LINE, linewidth=0.6)


def rate_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], marks: Mapping[str, float | None]
) -> Figure:
    """Loss by learning rate, on a logarithmic axis. marks: name → rate, drawn as lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=LINE, linewidth=1, label="loss of each update")
    axes.plot(rates, smoothed, color=BLUE, linewidth=1.8, label="smoothed")
    axes.set_xscale("log")
    for (name, rate), colour in zip(marks.items(), (RED, ORANGE, SOFT), strict=False):
        if rate is not None:
            axes.axvline(rate, color=colour, linewidth=1.3, linestyle="--", label=f"{name}: {rate:.2g}")
    start, low = float(np.median(losses[:10])), min(smoothed)
    axes.set_ylim(low - 0.15 * (start - low + 0.1), start + 1.0 * (start - low + 0.1))
    axes.set_xlabel("learning rate (peak, for the whole batch)")
    axes.set_ylabel("training loss")
    axes.grid(color=LINE, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
