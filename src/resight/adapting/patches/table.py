"""Accuracy against the share of tiles, as a table for people, and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resight.adapting.patches.curve import Point
from resight.evaluation import Estimate
from resight.images import printable
from resight.runs import Artifact


def to_text(
    curves: Mapping[str, Sequence[Point]], points: Mapping[str, Point | None], gained: Estimate | None, pictures: int
) -> str:
    """A line for each share, a column for each rule; ``*`` where a rule is within the budget, and stays there. gained:
    see ``verdict``.
    """
    lines = [f"{'tiles':>7}" + "".join(f"{name:>12}" for name in curves)]
    for row in zip(*curves.values(), strict=True):
        cells = [
            f"{100 * point.accuracy:9.1f} %{'*' if point == points[rule] else ' '}"
            for rule, point in zip(curves, row, strict=True)
        ]
        lines.append(f"{100 * row[0].share:5.1f} %" + "".join(cells))
    lines.append(
        f"accuracy on {pictures:,} validation pictures, of which one is {100 / pictures:.2g} points; * enough tiles"
    )
    return "\n".join([line.rstrip() for line in lines] + [verdict(points, gained)])


def verdict(points: Mapping[str, Point | None], gained: Estimate | None) -> str:
    """Whether learning was worth it, in plain words. gained: what the policy is better than detail at its share."""
    shares = {rule: 1.0 if point is None else point.looked for rule, point in points.items()}
    needed = "tiles needed: " + ", ".join(f"{rule} {100 * share:.1f} %" for rule, share in shares.items())
    if gained is None:
        return f"{needed}; the policy is of no use here"
    shown = f"{100 * gained.value:+.1f} [{100 * gained.low:+.1f}, {100 * gained.high:+.1f}] points"
    better = "is better" if gained.low > 0 else "is not shown to be better"
    return f"{needed}\nthe policy {better} than the tiles with most detail: {shown} at its share"


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
    lines.append(f"tiles are chosen by {'the policy' if about['by'] == 'policy' else 'their detail'}")
    lines.append(
        f"{median:.2f} times as fast as all tiles ({least:.2f} to {most:.2f}), from decoded pictures; choosing them "
        f"takes {100 * pace['policy']:.1f} % of the time of all tiles"
    )
    lines += [f"note: {note}" for note in card.notes]
    lines.append(f"answer with it: resight predict RUN PICTURES --artifact {card.name}")
    return "\n".join(lines)
