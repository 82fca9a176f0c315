"""``artifacts/NAME/card.json``: what an artefact is, as a plain dataclass."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from resight.errors import RunError
from resight.runs.card import Threshold
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.run import ONNX, Run

SCHEMA = 1
AGAIN = "export it again: resight export RUN --to …"


@dataclass(frozen=True)
class ArtifactCard:
    """``card.json``.

    target: what it is for, as given to ``--to``. precision: ``fp32`` or ``int8``. backend: which of
    ``resight.inference.BACKENDS`` answers with it here; None: none does (it is for another program). graph: the file
    that the backend opens, or the main one. made_from: SHA-256 of the Run's model.onnx. classes, channels, geometry,
    mean, std: as in the Run, so that an artefact that is taken away still says what it answers. temperature,
    thresholds, unknown: its own, as far as they differ from the Run's. parity: how it agrees with model.onnx, measured
    when it was exported. metrics: its own, per part, as in run.json. quantization: how int8 was made and what stayed
    fp32; empty for fp32. adaptive: of an artefact of several graphs: its routes, each with its name, share of pictures
    and time, its rule, and the curves it was chosen from; else empty. notes: what was not checked. environment:
    versions that it was made with. files: SHA-256 by path below its folder.
    """

    name: str
    target: str
    precision: str
    backend: str | None
    graph: str
    made_from: str
    classes: tuple[str, ...]
    channels: int
    geometry: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "single"
    temperature: float = 1.0
    thresholds: tuple[Threshold, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    adaptive: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    created: str = ""
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def of(cls, run: Run, name: str, *, target: str, precision: str, backend: str | None, graph: str) -> ArtifactCard:
        """With all that an artefact has from its Run; the rest by ``dataclasses.replace``."""
        card = run.card
        return cls(
            name=name,
            target=target,
            precision=precision,
            backend=backend,
            graph=graph,
            made_from=card.files[ONNX],
            classes=card.classes,
            channels=card.channels,
            geometry=card.geometry.to_dict(),
            mean=card.mean,
            std=card.std,
            task=card.task,
            temperature=card.temperature,
            thresholds=card.thresholds,
            unknown=card.unknown,
        )

    @property
    def fp32_layers(self) -> tuple[str, ...]:
        """Layers of an int8 form that stayed in fp32; none of an fp32 form, nor where a stranger's card does not list
        them.
        """
        kept = self.quantization.get("fp32_layers")
        return tuple(map(str, kept)) if isinstance(kept, list | tuple) else ()

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the graphs of which one answers for each picture; none where there is one graph only."""
        return tuple(route["name"] for route in self.adaptive.get("routes", ()))

    @property
    def no_maps(self) -> str:
        """Why there are no class activation maps of what this artefact answers; empty where there are."""
        if self.backend == "patches":
            return "this artefact looks at some tiles of a picture only: explain the Run itself, which looks at all"
        if self.routes and self.precision == "fp32":
            maps = [route.get("maps") for route in self.adaptive["routes"]]
            if None in maps:
                return "the last layers of its routes are not in this artefact: make it again"
            return "" if all(maps) else "one of its networks does not end in average pooling and one linear layer"
        if self.precision != "fp32":
            return "an int8 form rounds its last layer, so its answer is not the sum of a class activation map"
        return ""

    def to_json(self) -> bytes:
        return json_bytes(asdict(self))


def _is_small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < math.inf


def read_card(path: Path) -> ArtifactCard:
    """Raises RunError for anything that is not a card of this schema."""
    try:
        plain = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise RunError(f"{path} is not an artefact's card of schema {SCHEMA}", hint=AGAIN)
    try:
        if unknown := set(plain) - {f.name for f in fields(ArtifactCard)}:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        listed = {name: tuple(plain[name]) for name in ("classes", "mean", "std", "notes")}
        thresholds = tuple(Threshold(**one) for one in plain["thresholds"])
        card = ArtifactCard(**plain | listed | {"thresholds": thresholds})
        texts = [card.name, card.target, card.precision, card.graph, card.made_from, *card.files, *card.files.values()]
        if not all(isinstance(text, str) for text in texts) or not isinstance(card.backend, str | None):
            raise TypeError("a text is none")
        tables = (card.parity, card.metrics, card.quantization, card.environment, card.adaptive)
        if not all(isinstance(table, dict) for table in tables) or not _is_small(card.parity.get("max_abs", 0)):
            raise TypeError("a table is none, or parity is no number")
        if not all(
            isinstance(r["name"], str) and isinstance(r["backend"], str) for r in card.adaptive.get("routes", ())
        ):
            raise TypeError("a route is none")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise RunError(f"{path} lacks or misspells a field: {error}", hint=AGAIN) from error
    return card
