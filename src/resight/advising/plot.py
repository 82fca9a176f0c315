"""The candidates as a picture: what each costs, the best expected at the top."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from resight.advising.choose import Advice, Option
from resight.reporting.figures import BLUE, LINE, ORANGE, RED, SOFT, name_of
from resight.runs.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_TRAINING = "minutes to train, the recipe's length (half of it must fit)"


def plot(advice: Advice, path: Path) -> None:
    """Writes a PNG or SVG, by the ending. Raises StorageError."""
    from matplotlib.figure import Figure

    options = advice.options
    figure = Figure(figsize=(10, 1.7 + 0.27 * len(options)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, advice, [o.full_seconds / 60 for o in options], _TRAINING, (advice.limits.budget or 0) / 60)
    _panel(right, advice, [1000 * o.latency for o in options], "milliseconds for a picture",
           1000 * (advice.limits.latency or 0))  # fmt: skip
    left.set_yticks(
        range(len(options)), [name_of(o.candidate.title, 60) for o in options], parse_math=False, fontsize=8
    )
    left.set_ylim(len(options) - 0.4, -0.6)
    left.set_ylabel("best expected at the top, by published results")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix[1:].lower(), dpi=120)
    write_atomic(path, stream.getvalue())


def _panel(axes: Axes, advice: Advice, values: list[float], label: str, limit: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for name, colour, marker, positions in _groups(advice):
        axes.plot([values[i] for i in positions], positions, marker, color=colour, label=name, markersize=6)
    axes.plot(values[advice.chosen], advice.chosen, "*", color=ORANGE, markersize=15, label="the advice")
    if limit:
        axes.axvline(limit, color=RED, linestyle="--", linewidth=1, label="the limit")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    axes.grid(color=LINE, linewidth=0.6)


def _groups(advice: Advice) -> list[tuple[str, str, str, list[int]]]:
    def those(wanted: bool, fits: bool) -> list[int]:
        return [i for i, o in enumerate(advice.options) if (i in advice.front) == wanted and _fits(o) == fits]

    found = [
        ("nothing else is as good and quick", BLUE, "o", those(True, True)),
        ("another one is", SOFT, "o", those(False, True)),
        ("breaks a limit", RED, "x", sorted(those(True, False) + those(False, False))),
    ]
    return [group for group in found if group[3]]


def _fits(option: Option) -> bool:
    return not option.exceeds
