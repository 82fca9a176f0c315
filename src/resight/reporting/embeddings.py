"""A plane of embeddings as a plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resight.images import printable
from resight.reporting.page import svg

Floats = NDArray[np.float32]
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#332288",
    "#aa4499",
    "#777777",
    "#882255",
)
_MARKERS = "os^Dv<>P"
_NAMED = 30


def embedding_plot(
    points: Floats,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    shares: tuple[float, float],
    own: Floats | None = None,
) -> str:
    """Training pictures at ``points`` (M, 2), a colour and mark for each class, the first 30 named; ``own`` (N, 2) as
    numbered stars. shares: of the variance that each axis shows. Returns a ``data:`` address of an SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for k in np.unique(labels):
        x, y = points[labels == k].T
        colour, marker = _COLOURS[k % len(_COLOURS)], _MARKERS[k // len(_COLOURS) % len(_MARKERS)]
        axes.scatter(x, y, s=18, c=colour, marker=marker, alpha=0.75, linewidths=0)
    marks = axes.collections[:_NAMED]
    names = [printable(classes[k], 24) for k in np.unique(labels)[:_NAMED]]
    legend = figure.legend(marks, names, loc="outside right upper", frameon=False, fontsize="small", markerscale=1.5)
    for text in legend.get_texts():
        text.set_parse_math(False)
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
    for number, (x, y) in enumerate(own if own is not None else (), start=1):
        axes.scatter(x, y, s=130, c="black", marker="*", edgecolors="white", zorder=4)
        axes.annotate(str(number), (x, y), xytext=(6, 6), textcoords="offset points", weight="bold", bbox=box)
    axes.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second component, {shares[1]:.0%}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)
