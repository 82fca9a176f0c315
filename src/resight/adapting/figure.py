"""The accuracy–time curve of what was tried, as a PNG beside the artefact."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from resight.adapting.cascade import Point
from resight.adapting.patches.curve import Point as TilePoint
from resight.images import printable
from resight.runs.storage import write_atomic

COLOURS = ("#1f5fbf", "#c46a00", "#2e7d4f", "#8250a8", "#5b636d")
RED = "#b3261e"


def save_curves(
    path: Path,
    curves: Mapping[str, Sequence[Point]],
    whole: str,
    accuracy: float,
    seconds: float,
    chosen: str,
    point: Point,
) -> None:
    """A line for each of ``curves``, by what it is called: accuracy on validation against the expected time of a single
    picture, relative to the whole network's. accuracy, seconds: the whole network's. chosen, point: what was made, in
    words. Raises StorageError.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for colour, (name, points) in zip(COLOURS * len(curves), curves.items(), strict=False):
        times = [one.seconds / seconds for one in points]
        axes.plot(times, [100 * one.accuracy for one in points], color=colour, label=printable(name))
        axes.plot(times[:1], [100 * points[0].accuracy], "o", color=colour, markersize=5)
    axes.plot([1], [100 * accuracy], "s", color="black", label=printable(whole), markersize=6)
    axes.plot(
        [point.seconds / seconds],
        [100 * point.accuracy],
        "*",
        color=RED,
        markersize=14,
        label=f"chosen: {printable(chosen)}",
    )
    axes.set_xlabel(f"expected time of a single picture ({printable(whole)} = 1)", parse_math=False)
    axes.set_ylabel("accuracy on validation, %")
    axes.set_xlim(left=0)
    axes.grid(color="#dfe3e8", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in figure.legend(frameon=False, fontsize=9, loc="outside lower center").get_texts():
        text.set_parse_math(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_atomic(path, stream.getvalue())


def save_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """A policy's training: reward, share of the time, accuracy and number of policies on validation, by updates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    titles = {
        "reward": "mean reward",
        "share": "time, as a part of the whole",
        "accuracy": "accuracy",
        "policies": "different policies",
    }
    steps = [one["step"] for one in history]
    for place, colour, (name, title) in zip(figure.subplots(2, 2).flat, COLOURS[:4], titles.items(), strict=True):
        place.plot(steps, [one[name] for one in history], color=colour, marker="o", markersize=3)
        place.set_title(title, fontsize=10)
        place.set_xlabel("updates", fontsize=8)
        place.grid(color="#dfe3e8", linewidth=0.6)
        place.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_atomic(path, stream.getvalue())


def save_tile_curves(
    path: Path, curves: Mapping[str, Sequence[TilePoint]], accuracy: float, rule: str, point: TilePoint
) -> None:
    """A line for each rule: accuracy on validation against the share of tiles that are looked at. accuracy: of all
    tiles. rule, point: what was made. Raises StorageError.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(
            [100 * one.looked for one in points],
            [100 * one.accuracy for one in points],
            color=colour,
            marker="o",
            markersize=3,
            label=printable(name),
        )
    axes.plot([100], [100 * accuracy], "s", color="black", label="all tiles", markersize=6)
    chosen = f"chosen: {rule}, {100 * point.looked:.1f} % of the tiles"
    axes.plot([100 * point.looked], [100 * point.accuracy], "*", color=RED, markersize=14, label=chosen)
    axes.set_xlabel("tiles looked at in full, %")
    axes.set_ylabel("accuracy on validation, %")
    axes.grid(color="#dfe3e8", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_atomic(path, stream.getvalue())
