"""What the page shows of a model. Nothing of it says where anything lies on this machine."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from resight.errors import RunError
from resight.inference import Predictor
from resight.runs import CONFIG, Artifact, Run
from resight.serving.limits import Limits


def card_of(name: str, version: str, predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """Plain values for ``GET /models/NAME/card``. ``metrics``: of the test part, else of validation, as in run.json."""
    card, artifact = predictor.card, predictor.artifact
    part = next((part for part in ("test", "val") if part in card.metrics), None)
    return {
        "name": name,
        "version": version,
        "architecture": card.architecture.name,
        "task": card.task,
        "classes": list(card.classes),
        "channels": card.channels,
        "geometry": card.geometry.to_dict(),
        "metrics": card.metrics[part] if part else {},
        "part": part,
        "parity": card.parity,
        "unknown": card.unknown or None,
        "artifact": artifact.card.name if artifact else None,
        "routes": _routes(artifact, part) if artifact else [],
        "data": {"name": _data_name(predictor.run), "counts": card.data.get("counts", {})},
        "created": card.created,
        "recipe": card.recipe,
        "limits": limits.shown(),
    }


def _routes(artifact: Artifact, part: str | None) -> list[dict[str, Any]]:
    """Of an adaptive artefact, each graph: its name, which share of the part's pictures it answered, and how long it
    takes, the whole network's time being 1; None for what was not measured.
    """
    try:
        return [
            {"name": route["name"], "share": route["share"].get(part), "time": route["times"]}
            for route in artifact.card.adaptive.get("routes", ())
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{artifact.path} does not say which share its routes answer: {error!r}") from error


def _data_name(run: Run) -> str | None:
    """The last part of the path that was trained on; None of imported weights."""
    if not run.records(CONFIG):
        return None
    try:
        path = run.read_json(CONFIG)["data"]["path"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / CONFIG} names no data: {error}") from error
    return PurePath(str(path).replace("\\", "/")).name or None
