"""Whether answers have collapsed: all alike, or alike but in a few directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from resight.evaluation.representation import effective_rank, spread

LEAST_SPREAD = 0.2
LEAST_RANK = 2.0


@dataclass(frozen=True)
class Look:
    """At a batch's projections, (B, width): see ``spread`` and ``effective_rank``."""

    step: int
    spread: float
    rank: float

    @property
    def collapsed(self) -> bool:
        """A spread below 0.2, or hardly more than one direction; what healthy ones have: docs/pretraining.md."""
        return self.spread < LEAST_SPREAD or self.rank < LEAST_RANK


def look(step: int, projections: NDArray[Any]) -> Look:
    return Look(step, spread(projections), effective_rank(projections))


@dataclass
class Watch:
    """Says so once when answers collapse, and once when they have recovered."""

    remedy: str
    collapsed: bool = False
    seen: list[Look] = field(default_factory=list)

    def after(self, found: Look) -> list[str]:
        """What is to be said."""
        self.seen.append(found)
        if found.collapsed == self.collapsed:
            return []
        self.collapsed = found.collapsed
        measured = f"spread {found.spread:.2f} of 1, {found.rank:.1f} directions"
        if not found.collapsed:
            return [f"step {found.step}: the answers are no longer collapsed ({measured})"]
        return [
            f"warning: step {found.step}: the answers have collapsed: nearly all pictures get the same one "
            f"({measured}). Nothing will be learned like this. {self.remedy}"
        ]
