"""The page of ``resight study shortcuts``: blocks and stages of one trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.reporting.figures import BLUE, LINE, ORANGE, RED, SOFT
from resight.reporting.page import svg, write_page
from resight.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Blocks = Sequence[Mapping[str, Any]]
_STAGES = ("#7fa8d8", "#1f5fbf", "#17733f", "#8a3ffc")  # blocks of one stage have one colour


def write_shortcuts(path: Path, run: Run, found: Mapping[str, Any], looked: Mapping[str, NDArray[np.float32]]) -> None:
    """One self-contained page, written atomically: no script, nothing fetched.

    found: of ``resight.commands.study_shortcuts``. looked: by stage, float32 (H, W) in 0 … 1. Raises StorageError.
    """
    blocks = found["blocks"]
    plain = all(block["ratio"] is None for block in blocks)
    reshaped = [b["skipped"] for b in blocks if b["changes_shape"] and b["skipped"] is not None]
    others = [b["skipped"] for b in blocks if not b["changes_shape"]]
    write_page(
        path,
        "shortcuts.html",
        card=run.card,
        found=found,
        plain=plain,
        ratios=None if plain else svg(_ratios(blocks)),
        lost=svg(_lost(blocks, found["accuracy"], found["chance"])),
        fields=svg(_fields(found["stages"], looked)),
        probes=svg(_probes(found["stages"])),
        reshaped=float(np.mean(reshaped)) if reshaped else None,
        others=float(np.mean(others)) if others else None,
        version=version("resight"),
    )


def _ratios(blocks: Blocks) -> Figure:
    """How much each block adds, relative to what it is added to."""
    figure = _figure(max(6.4, 0.3 * len(blocks)), 3.2)
    axes = figure.subplots()
    values = [block["ratio"] for block in blocks]
    axes.bar(range(len(blocks)), values, 0.8, color=[_colour(block) for block in blocks])
    axes.axhline(1, color=SOFT, linewidth=1, linestyle="--")
    axes.set_ylabel("‖branch‖ / ‖shortcut‖")
    _named(axes, blocks)
    return figure


def _lost(blocks: Blocks, accuracy: float, chance: float) -> Figure:
    """Accuracy without each block (Veit et al. 2016, figure 3), and with neighbours swapped."""
    figure = _figure(max(6.4, 0.3 * len(blocks)), 3.4)
    axes = figure.subplots()
    axes.axhline(100 * accuracy, color=SOFT, linewidth=1.2, label="whole network")
    axes.axhline(100 * chance, color=SOFT, linewidth=1, linestyle=":", label="always the commonest class")
    for name, marker, colour, label in (("skipped", "o", BLUE, "skipped"), ("swapped", "x", ORANGE, "swapped")):
        points = [(k, 100 * block[name]) for k, block in enumerate(blocks) if block[name] is not None]
        if points:
            shift = 0.5 if name == "swapped" else 0.0  # between the two that are exchanged
            x, y = np.array(points).T
            axes.plot(x + shift, y, marker, color=colour, markersize=5, label=label)
    for k, block in enumerate(blocks):
        if block["changes_shape"] and block["skipped"] is not None:
            axes.plot(k, 100 * block["skipped"], "o", color=RED, markersize=9, markerfacecolor="none")
    axes.set_ylim(0, 101)
    axes.set_ylabel("accuracy in %")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _named(axes, blocks)
    return figure


def _fields(stages: Blocks, looked: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Where the middle of each stage's map really looks; the frame is what could change it at all."""
    figure = _figure(2.1 * len(stages), 2.5)
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        weights = looked[stage["name"]]
        height, width = weights.shape
        axes.imshow(np.sqrt(weights), cmap="magma", vmin=0, vmax=1, extent=(0, width, height, 0))
        y, x = (float(np.average(np.arange(n) + 0.5, weights=weights.sum(1 - k))) for k, n in enumerate(weights.shape))
        half = stage["size"] / 2
        left, right, top, bottom = max(0, x - half), min(width, x + half), max(0, y - half), min(height, y + half)
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="#8ab4f8", linewidth=1.5)
        axes.set_title(f"{stage['name']}: {stage['size']} px", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _probes(stages: Blocks) -> Figure:
    """What a linear probe reads from each stage's pooled features."""
    figure = _figure(5.2, 3.0)
    axes = figure.subplots()
    axes.plot(range(len(stages)), [100 * stage["probe"] for stage in stages], "o-", color=BLUE)
    axes.set_xticks(range(len(stages)), [stage["name"] for stage in stages], fontsize=9)
    axes.set_ylabel("probe's accuracy in %")
    axes.grid(color=LINE, linewidth=0.6)
    return figure


def _colour(block: Mapping[str, Any]) -> str:
    number = int(block["name"].removeprefix("stage").partition(".")[0])
    return _STAGES[(number - 1) % len(_STAGES)]


def _named(axes: Axes, blocks: Blocks) -> None:
    """Names below, of so many that they can be read."""
    every = max(1, -(-len(blocks) // 40))
    places = range(0, len(blocks), every)
    axes.set_xticks(places, [blocks[k]["name"].removeprefix("stage") for k in places], rotation=90, fontsize=8)
    axes.set_xlabel("stage.block")
    axes.grid(axis="y", color=LINE, linewidth=0.6)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, 24.0), height), layout="constrained")
