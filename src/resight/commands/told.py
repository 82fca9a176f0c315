"""What every evaluation says of itself, whatever the number of labels a picture has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from resight.evaluation import Estimate
from resight.images import printable
from resight.inference import Choice


class Told(Protocol):
    """The part that all results of an evaluation have."""

    @property
    def run(self) -> Path: ...
    @property
    def artifact(self) -> str | None: ...
    @property
    def data(self) -> Path: ...
    @property
    def part(self) -> str: ...
    @property
    def evaluation(self) -> Any: ...
    @property
    def skipped(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def choice(self) -> Choice | None: ...
    @property
    def unknown(self) -> Estimate | None: ...


def plain(result: Told) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "run": str(result.run),
        "artifact": result.artifact,
        "data": str(result.data),
        "part": result.part,
        "backend": None if result.choice is None else asdict(result.choice),
        "skipped": [{"source": source, "reason": reason} for source, reason in result.skipped],
        "warnings": list(result.warnings),
        "unknown": None if result.unknown is None else asdict(result.unknown),
        "evaluation": result.evaluation.to_dict(),
    }


def paragraphs(result: Told) -> list[str]:
    """For a terminal: what was evaluated, warnings, skipped pictures, the tables, how many are called unknown."""
    part = "all pictures" if result.part == "all" else f"part {result.part}"
    form = "" if result.artifact is None else f", artefact {result.artifact},"
    lines = [f"{printable(str(result.run))}{form} on {printable(str(result.data))}, {part}"]
    lines += [f"warning: {text}" for text in result.warnings]
    if result.skipped:
        lines.append(f"{len(result.skipped):,} pictures could not be read and are not counted:")
        lines += [f"  {printable(source)}: {printable(reason)}" for source, reason in result.skipped]
    parts = ["\n".join(lines), result.evaluation.to_text()]
    if result.unknown is not None:
        share, low, high = (100 * value for value in (result.unknown.value, result.unknown.low, result.unknown.high))
        n = result.evaluation.n
        parts.append(
            f"called unknown: {round(result.unknown.value * n):,} of {n:,}, {share:.1f} %  [{low:.1f}, {high:.1f}]"
        )
    return parts
