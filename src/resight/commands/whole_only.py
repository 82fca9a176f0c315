"""Commands that look at one square of each picture, and refuse to cut pictures into tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.commands.own_data import run_at
from resight.errors import UsageError


def refuse_tiles(wishes: Mapping[str, Any], what: str) -> None:
    """Raises UsageError where a training with these wishes, by dotted name, would cut pictures into tiles: by
    ``data.geometry``, or as the Run does whose weights it starts from.
    """
    weights = run_at(wishes.get("model.weights"))
    of_weights = weights.card.geometry.kind if weights is not None else ""
    if wishes.get("data.geometry", of_weights) == "tiles":
        raise UsageError(
            f"{what} looks at one square of each picture; data.geometry=tiles cuts it into many",
            hint="resight train has tiles: see docs/tiles.md",
        )
