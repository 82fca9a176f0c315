"""Whether answers have collapsed: all alike, or alike but in a few directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from resight.evaluation.representation import effective_rank, spread

LEAST_SPREAD, LEAST_RANK = 0.2, 2.0
"""Either alone is a collapse."""
LOW_SPREAD, LOW_RANK = 0.6, 5.0
"""And so are both of these together: with a norm at the end of a projection neither falls to nothing."""


@dataclass(frozen=True)
class Look:
    """At a batch's projections, (B, width): see ``spread`` and ``effective_rank``."""

    step: int
    spread: float
    rank: float

    @property
    def collapsed(self) -> bool:
        """See the limits above; what healthy trainings have, and made collapses: docs/pretraining.md."""
        low = self.spread < LOW_SPREAD and self.rank < LOW_RANK
        return self.spread < LEAST_SPREAD or self.rank < LEAST_RANK or low


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
