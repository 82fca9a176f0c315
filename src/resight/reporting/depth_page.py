"""``depth.html``: plain against residual nets by depth, what was measured beside what the paper found."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resight.reporting import depth_figures as draw
from resight.reporting.page import svg, write_page


def write_depth(path: Path, found: Mapping[str, Any]) -> None:
    """One self-contained page, written atomically: no script, nothing fetched.

    found: ``resight.studying.findings.findings`` with ``claims``. Raises StorageError.
    """
    members, depths = found["members"], found["depths"]
    kinds = [kind for kind in found["kinds"] if any(m["kind"] == kind for m in members)]
    norms = [kind for kind in kinds if any(m["kind"] == kind and m["gradients"] for m in members)]
    figures = {
        "curves": svg(draw.curves(members, depths, kinds)),
        "errors": svg(draw.errors(found["nets"], depths, kinds)),
        "responses": svg(draw.responses(members, depths, kinds)),
    }
    if norms:
        figures["first"] = svg(draw.gradients(members, depths, norms, last=False))
        figures["last"] = svg(draw.gradients(members, depths, norms, last=True))
        deepest = max(m["depth"] for m in members)
        figures["in_time"] = svg(draw.gradients_in_time(members, deepest, norms))
    write_page(
        path,
        "depth.html",
        found=found,
        settings=found["settings"],
        figures=figures,
        done=len(members) + len(found["ended"]),
        version=version("resight"),
    )
