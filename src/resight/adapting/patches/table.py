"""Accuracy against the share of tiles, as a table for people, and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resight.adapting.patches.curve import Point
from resight.images import printable
from resight.runs import Artifact


def to_text(curves: Mapping[str, Sequence[Point]], chosen: Point | None, pictures: int) -> str:
    """A line for each share, the one that is taken with ``*``; a column for each rule."""
    lines = [f"{'tiles':>8}  " + "  ".join(f"{name:>9}" for name in curves)]
    for row in zip(*curves.values(), strict=True):
        mark = "*" if chosen is not None and row[0].share == chosen.share else " "
        cells = "  ".join(f"{100 * point.accuracy:7.1f} %" for point in row)
        lines.append(f"{mark}{100 * row[0].share:5.1f} %  {cells}")
    lines.append(f"accuracy on {pictures:,} validation pictures; one of them is {100 / pictures:.2g} points")
    if chosen is not None and (simple := as_good(curves, chosen)):
        lines.append(f"at that share as good or better without a policy: {', '.join(simple)}")
    return "\n".join(lines)


def as_good(curves: Mapping[str, Sequence[Point]], chosen: Point) -> list[str]:
    """The other rules that lose nothing to the policy at the chosen share."""
    found = []
    for name, points in curves.items():
        same = next(point for point in points if point.share == chosen.share)
        if name != "policy" and same.accuracy >= chosen.accuracy:
            found.append(f"{name} ({100 * same.accuracy:.1f} %)")
    return found


def told(artifact: Artifact) -> str:
    """What was made, what it costs on test, and how to use it."""
    card, about = artifact.card, artifact.card.adaptive
    pace = about["pace"]
    median, least, most = pace["times"]
    lines = [f"{printable(str(artifact.path))}: {card.name}, {artifact.bytes / 1e6:,.2f} MB"]
    for part, drop in about["lost"].items():
        accuracy = card.metrics[part]["metrics"]["accuracy"]["value"]
        lost = f"{100 * drop['value']:+.2f} [{100 * drop['low']:+.2f}, {100 * drop['high']:+.2f}]"
        looked = f"looked at {100 * about['looked'][part]:.1f} % of the tiles"
        lines.append(f"{part:<5}  accuracy {100 * accuracy:.2f} %, lost {lost} points; {looked}")
    lines.append(
        f"{median:.2f} times as fast as all tiles ({least:.2f} to {most:.2f}), from decoded pictures; choosing them "
        f"takes {100 * pace['policy']:.1f} % of the time of all tiles"
    )
    lines += [f"note: {note}" for note in card.notes]
    lines.append(f"answer with it: resight predict RUN PICTURES --artifact {card.name}")
    return "\n".join(lines)
