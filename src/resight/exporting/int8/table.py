"""What was tried, as rows for the card and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resight.exporting.int8.loss import Loss
from resight.exporting.int8.search import Candidate, computed_wrongly
from resight.exporting.int8.speed import Rates


@dataclass(frozen=True)
class Row:
    """A candidate, or fp32 (``loss`` None). apart: see `search.Candidate`. verdict: why it was chosen or not."""

    name: str
    why: str
    size: int
    score: float
    rates: Rates
    loss: Loss | None = None
    kept: tuple[str, ...] = ()
    layers: int = 0
    apart: float | None = None
    verdict: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Rates in pictures a second, size in bytes."""
        return asdict(self)


def row_of(candidate: Candidate, rates: Rates, fp32: Sequence[Rates], max_drop: float) -> Row:
    """With its verdict: ``good`` where it is within the budget and faster than fp32."""
    reasons = []
    if candidate.apart is not None and not candidate.sound:
        reasons.append(computed_wrongly(candidate.apart))
    if not candidate.loss.within(max_drop):
        reasons.append("loses too much")
    if not rates.faster_than(fp32):
        reasons.append("not faster than fp32")
    return Row(
        candidate.artifact,
        candidate.why,
        candidate.size,
        candidate.loss.score,
        rates,
        candidate.loss,
        candidate.kept,
        candidate.layers,
        candidate.apart,
        ", ".join(reasons) or GOOD,
    )


GOOD = "within the budget"


def to_text(rows: Sequence[Row], measure: str, chosen: Sequence[int]) -> str:
    """One numbered line a candidate, those that were exported with ``*``; below it what each is, and its verdict."""
    head = (
        "",
        "int8 layers",
        "size",
        measure,
        "lost, points [95 %]",
        "same label",
        "|Δp| max, mean",
        "one by one",
        "by 16",
    )
    cells: list[tuple[str, ...]] = [head]
    notes: list[str] = []
    for number, row in enumerate(rows):
        name, layers = row.name, ""
        if row.loss is not None:
            place = f"{len(notes) + 1}"
            name = f"{place:>2}{'*' if number in chosen else ' '} {row.name}"
            layers = f"{row.layers - len(row.kept)} of {row.layers}"
            verdict = f"exported ({row.verdict})" if number in chosen else row.verdict
            kept = f" ({', '.join(row.kept)})" if row.kept else ""
            notes.append(f"{place:>2}  {row.why}{kept}: {verdict}")
        rates = (f"{row.rates.one:,.0f}/s", f"{row.rates.sixteen:,.0f}/s")
        size, score = f"{row.size / 1e6:.2f} MB", f"{100 * row.score:.2f} %"
        cells.append((name, layers, size, score, *_loss(row.loss), *rates))
    widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells]
    return "\n".join([*lines, "", *notes])


def _loss(loss: Loss | None) -> tuple[str, str, str]:
    if loss is None:
        return "", "", ""
    drop = loss.drop
    return (
        f"{100 * drop.value:+.2f} [{100 * drop.low:+.2f}, {100 * drop.high:+.2f}]",
        f"{100 * loss.top1_agreement:.2f} %",
        f"{loss.max_abs:.3f}, {loss.mean_abs:.4f}",
    )
