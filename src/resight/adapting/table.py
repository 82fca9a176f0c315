"""What was tried, as rows for the card and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from resight.adapting.timing import Pace
from resight.evaluation import Estimate
from resight.images import printable

COMPARED = "for comparison"
GOOD = "within the budget, and faster"


@dataclass(frozen=True)
class Row:
    """A candidate, or the whole network (``drop`` None), on validation. shares: of the pictures by route. accuracy and
    drop: 0 … 1; drop is the whole network's accuracy minus this one, paired. expected: times as fast for single
    pictures, by the routes' seconds. pace: measured; None where it was not worth measuring. verdict: why it was chosen
    or not.
    """

    name: str
    accuracy: float | None
    shares: tuple[float, ...] = ()
    drop: Estimate | None = None
    expected: float | None = None
    pace: Pace | None = None
    verdict: str = ""

    def measured(self, pace: Pace, loses: bool) -> Row:
        reasons = ["loses too much"] if loses else []
        reasons += [] if pace.faster else ["not faster than the whole network"]
        return replace(self, pace=pace, verdict=", ".join(reasons) or GOOD)

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        return plain | {"pace": None if self.pace is None else self.pace.to_dict()}


def to_text(rows: Sequence[Row], chosen: int | None) -> str:
    """One line a candidate, the one that was made with ``*``; below it the verdicts."""
    cells = [("", "by route", "accuracy", "lost, points [95 %]", "expected", "one by one", "by 16")]
    notes = []
    for number, row in enumerate(rows):
        mark = "*" if number == chosen else " "
        shares = " ".join(f"{100 * share:.0f} %" for share in row.shares)
        expected = "" if row.expected is None else f"{row.expected:.2f}×"
        cells.append(
            (
                f"{mark}{printable(row.name)}",
                shares,
                "" if row.accuracy is None else f"{100 * row.accuracy:.2f} %",
                lost(row.drop),
                expected,
                "" if row.pace is None else ratio(row.pace.one),
                "" if row.pace is None else ratio(row.pace.sixteen),
            )
        )
        notes += [f"{mark}{printable(row.name)}: {row.verdict}"] if row.verdict not in ("", COMPARED) else []
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in cells]
    return "\n".join([*lines, "", *notes])


def lost(drop: Estimate | None) -> str:
    if drop is None:
        return ""
    return f"{100 * drop.value:+.2f} [{100 * drop.low:+.2f}, {100 * drop.high:+.2f}]"


def ratio(found: tuple[float, float, float]) -> str:
    """A median, and the range of the rounds."""
    return f"{found[0]:.2f}× ({found[1]:.2f} to {found[2]:.2f})"
