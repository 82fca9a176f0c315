"""The picture of an evaluation under corruptions: one square for each kind and severity."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from resight.evaluation.corruptions import FAMILIES, SEVERITIES
from resight.reporting.page import svg


def robustness_figure(robustness: Mapping[str, Any]) -> str:
    """A ``data:`` address of a heat map: accuracy of each kind (rows) at severities 1 … 5, after the clean one.

    ``robustness``: `Robustness.to_dict`. Colours run from 0 to 100 %, so that figures of two Runs can be compared.
    """
    import numpy as np
    from matplotlib.figure import Figure

    kinds = robustness["kinds"]
    clean = robustness["clean"]["value"]
    shares = np.array([[clean, *(cell["value"] for cell in kind["accuracy"])] for kind in kinds])
    figure = Figure(figsize=(5.4, 0.9 + 0.3 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="RdYlBu", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        dark = share < 0.12 or share > 0.88  # both ends of these colours, which the colour-blind can tell apart
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color="w" if dark else "k")
    axes.set_xticks(range(len(SEVERITIES) + 1), ["clean", *map(str, SEVERITIES)])
    axes.set_yticks(range(len(kinds)), [kind["kind"].replace("_", " ") for kind in kinds])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("accuracy in %, by severity")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.axvline(0.5, color="w", linewidth=4)
    for place in _gaps([kind["kind"] for kind in kinds]):
        axes.axhline(place, color="w", linewidth=4)
    return svg(figure)


def _gaps(kinds: list[str]) -> list[float]:
    """Between which rows one family ends and the next begins."""
    family = {kind: name for name, members in FAMILIES.items() for kind in members}
    return [row + 0.5 for row, (one, other) in enumerate(pairwise(kinds)) if family[one] != family[other]]
