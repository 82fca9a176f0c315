"""What the page shows of an adaptive artefact: who answered, how sure it was, which classes cost most, the curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.inference.backend import read_graph
from resight.reporting.page import data_uri
from resight.runs import Artifact

CURVE = "curve.png"
SHOWN = 12
Show = Callable[[NDArray[np.int64]], list[dict[str, Any]]]


def adaptive_section(
    artifact: Artifact | None,
    routes: NDArray[np.int64] | None,
    chances: NDArray[Any],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    show: Show,
) -> dict[str, Any] | None:
    """The context of ``adaptive.html``; None for what answers with one graph.

    routes: (N,), which graph answered. chances: (N, K) probabilities. labels: (N,), positions in the ``classes``. show:
    makes the items of a gallery of positions. Raises RunError for a curve that was changed, and for a card without
    times.
    """
    if artifact is None or routes is None or not artifact.card.routes:
        return None
    about, right, sure = artifact.card.adaptive, chances.argmax(axis=1) == labels, chances.max(axis=1)
    times = np.array([_time(artifact, route) for route in about["routes"]])
    rows = []
    for number, name in enumerate(artifact.card.routes):
        mine = np.flatnonzero(routes == number)
        items = show(mine[np.argsort(-sure[mine], kind="stable")][:SHOWN])
        accuracy = float(right[mine].mean()) if len(mine) else None
        share = len(mine) / len(routes)
        rows.append({"name": name, "share": share, "accuracy": accuracy, "time": times[number], "items_": items})
    return {
        "routes": rows,
        "rule": about.get("rule", ""),
        "curve": _curve(artifact),
        "classes": _by_class(times[routes], labels, classes),
        "mean": float(np.nanmean(times[routes])),
        "dropped": _dropped(about, routes),
        "lost": about.get("lost", {}),
        "pace": about.get("pace"),
    }


def _time(artifact: Artifact, route: Any) -> float:
    """As a multiple of the whole network's; NaN for a route that was not timed."""
    try:
        return float("nan") if route["times"] is None else float(route["times"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{artifact.path} does not say how long its routes take: {error!r}") from error


def _by_class(times: NDArray[Any], labels: NDArray[np.int64], classes: Sequence[str]) -> list[tuple[str, int, float]]:
    """Name, number of pictures, mean time; those that cost most first. Classes without a timed picture are left out."""
    found = []
    for number, name in enumerate(classes):
        own = times[labels == number]
        own = own[np.isfinite(own)]
        if len(own):
            found.append((name, len(own), float(own.mean())))
    return sorted(found, key=lambda one: -one[2])


def _dropped(about: dict[str, Any], routes: NDArray[np.int64]) -> list[tuple[str, float]]:
    """Of a policy over blocks: each block, and the share of the pictures that did without it, the most first."""
    policies, blocks = about.get("policies"), about.get("blocks")
    if not policies or not blocks:
        return []
    shares = [float((routes == number).mean()) for number in range(len(policies))]
    gone = sum(share * (1 - np.array(row)) for share, row in zip(shares, policies.values(), strict=True))
    return sorted(zip(blocks, np.asarray(gone).tolist(), strict=True), key=lambda one: -one[1])


def _curve(artifact: Artifact) -> str:
    """The picture beside the artefact, from the very bytes that its card names; empty where it has none."""
    if CURVE not in artifact.card.files:
        return ""
    return data_uri(read_graph(artifact.path / CURVE, artifact.card.files[CURVE]), "image/png")
