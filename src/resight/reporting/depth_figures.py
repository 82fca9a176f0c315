"""The plots of a depth study: curves by update, errors by depth, responses and gradients by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.reporting.figures import LINE, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Members = Sequence[Mapping[str, Any]]
_COLOURS = ("#1f5fbf", "#c46a00", "#17733f", "#8a3ffc", "#b3261e", "#5b636d", "#0e7c86", "#a8326f", "#6b5b00")


def curves(members: Members, depths: Sequence[int], kinds: Sequence[str]) -> Figure:
    """Error in % by update, a panel for each kind: dashed while training, solid on validation (He et al. 2015, figure
    6). Each line is the mean over the seeds of a net."""
    figure, panels = _panels(len(kinds), 3.5)
    for axes, kind in zip(panels, kinds, strict=True):
        for colour, depth in zip(_shades(depths), depths, strict=True):
            some = _of(members, kind, depth)
            if not some:
                continue
            steps = [point["step"] for point in some[0]["curve"]]
            for part, style in (("train", "--"), ("val", "-")):
                mean = 100 * np.mean([[point[part] for point in m["curve"]] for m in some], axis=0)
                marker = "o" if len(steps) < 3 else ""
                width = 1.6 if part == "val" else 1.0
                label = f"{depth} layers" if part == "val" else None
                axes.plot(steps, mean, style, color=colour, linewidth=width, marker=marker, label=label)
        _finish(axes, kind, "update")
    panels[0].set_ylabel("error in %")
    return figure


def errors(nets: Members, depths: Sequence[int], kinds: Sequence[str]) -> Figure:
    """Final error by depth: training, validation, test; bars are ± one standard deviation over seeds."""
    figure = _figure(9.6, 3.4)
    for axes, (name, title) in zip(
        figure.subplots(1, 3, sharey=True),
        (("train_error", "training pictures"), ("val_error", "validation"), ("test_error", "test")),
        strict=True,
    ):
        for number, kind in enumerate(kinds):
            rows = [net for net in nets if net["kind"] == kind and net[name]]
            if not rows:
                continue
            places = [depths.index(net["depth"]) for net in rows]
            means = [100 * net[name]["mean"] for net in rows]
            spread = [100 * (net[name]["deviation"] or 0) for net in rows]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.errorbar(places, means, spread, color=colour, marker="o", markersize=4, capsize=3, label=kind)
        axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        _finish(axes, title, "layers")
    figure.axes[0].set_ylabel("error in %")
    return figure


def responses(members: Members, depths: Sequence[int], kinds: Sequence[str]) -> Figure:
    """Standard deviation of layer responses, of each net's first seed (He et al. 2015, figure 7): in the order of
    layers above, sorted by size below."""
    figure = _figure(max(6.0, 3.4 * len(kinds)), 5.4)
    grid = figure.subplots(2, len(kinds), sharey=True, squeeze=False)
    for column, kind in enumerate(kinds):
        for colour, depth in zip(_shades(depths), depths, strict=True):
            for member in _of(members, kind, depth)[:1]:
                values = np.array(member["responses"])
                layers = np.arange(1, len(values) + 1)
                grid[0, column].plot(layers, values, color=colour, linewidth=1.1, label=f"{depth} layers")
                grid[1, column].plot(layers, np.sort(values)[::-1], color=colour, linewidth=1.1)
        _finish(grid[0, column], kind, "layer, from the first")
        _finish(grid[1, column], "", "layer, from the largest")
    for row in grid:
        row[0].set_ylabel("standard deviation")
        row[0].set_ylim(bottom=0)
    return figure


def gradients(members: Members, depths: Sequence[int], kinds: Sequence[str], *, last: bool) -> Figure:
    """L2 norm of each layer's weight gradient, mean over seeds: of the first update, or of the last looked at."""
    figure, panels = _panels(len(kinds), 3.3)
    for axes, kind in zip(panels, kinds, strict=True):
        for colour, depth in zip(_shades(depths), depths, strict=True):
            rows = [row for m in _of(members, kind, depth) if (row := _row(m, last)) is not None]
            if rows:
                layers = np.arange(1, len(rows[0]) + 1)
                mean = np.exp(np.mean(np.log(np.maximum(rows, 1e-12)), axis=0))
                axes.plot(layers, mean, color=colour, linewidth=1.2, label=f"{depth} layers")
        axes.set_yscale("log")
        _finish(axes, kind, "layer, from the first")
    panels[0].set_ylabel("gradient norm")
    return figure


def gradients_in_time(members: Members, depth: int, kinds: Sequence[str]) -> Figure:
    """Gradient norm by update of the first, the middle and the last layer of blocks, in the first seed's net."""
    figure, panels = _panels(len(kinds), 3.3)
    for axes, kind in zip(panels, kinds, strict=True):
        for member in _of(members, kind, depth)[:1]:
            table = member["gradients"] or {}
            steps = sorted(map(int, table))
            count = len(member["layers"])
            for name, layer, colour in zip(
                ("first", "middle", "last"), (1, count // 2, count - 1), _shades((1, 2, 3)), strict=True
            ):
                values = [table[str(step)][layer] for step in steps]
                axes.plot(steps, _numbers(values), ".-", color=colour, linewidth=1.2, label=f"{name} layer")
        axes.set_xscale("log")
        axes.set_yscale("log")
        _finish(axes, f"{kind}, {depth} layers", "update")
    panels[0].set_ylabel("gradient norm")
    return figure


def _row(member: Mapping[str, Any], last: bool) -> np.ndarray | None:
    table = member["gradients"] or {}
    if not table:
        return None
    return _numbers(table[str(max(map(int, table))) if last else str(min(map(int, table)))])


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Norms that were not finite are left out of lines."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _of(members: Members, kind: str, depth: int) -> list[Mapping[str, Any]]:
    """The seeds of a net, in order."""
    return sorted((m for m in members if (m["kind"], m["depth"]) == (kind, depth)), key=lambda m: int(m["seed"]))


def _shades(depths: Sequence[int]) -> list[Any]:
    """One colour for each depth, from light to dark, all visible on white."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](x) for x in np.linspace(0.15, 1.0, len(depths))]


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A row of panels with one scale; more than four wrap."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = _figure(max(6.0, (3.6 if columns < 4 else 3.0) * columns), height * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _finish(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(below)
    axes.grid(color=LINE, linewidth=0.6)
    axes.tick_params(labelsize=8, colors=SOFT)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
