"""``run.json``: what a Run is, as plain dataclasses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from resight.errors import RunError
from resight.images import Geometry

SCHEMA = 1
Status = Literal["training", "trained", "sealed"]


@dataclass(frozen=True)
class Architecture:
    """A name of the family, the fields of its spec that differ from it, and its size."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0


@dataclass(frozen=True)
class RunCard:
    """Everything that another program must know to use the Run.

    classes: names in the order of the outputs. channels: 1 (grey) or 3 (RGB).
    mean, std: per channel, of pixels in [0, 1]. temperature: logits are divided by it before the softmax.
    calibrated: whether the temperature was fitted on validation pictures (imported weights have none).
    data: fingerprint, counts by part, skipped files. metrics: by part (``val``, ``test``), each the
    dictionary of :class:`resight.evaluation.Evaluation`. parity: ONNX against PyTorch, measured when sealed.
    files: SHA-256 of every file that belongs to the sealed Run.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    channels: int
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    status: Status = "training"
    task: Literal["single"] = "single"
    temperature: float = 1.0
    calibrated: bool = False
    recipe: str = ""
    seed: int = 0
    threads: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    source: str = ""
    created: str = ""
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        plain = asdict(self) | {"geometry": self.geometry.to_dict()}
        return (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> RunCard:
        """Raises RunError for anything that is not a run.json of a schema that this version knows."""
        try:
            plain = json.loads(data)
        except ValueError as error:
            raise RunError(f"{path} is not valid JSON: {error}", hint="restore the Run from a copy") from error
        if not isinstance(plain, dict) or "schema" not in plain:
            raise RunError(f"{path} is not a Run's card: it has no 'schema'")
        if plain["schema"] != SCHEMA:
            raise RunError(
                f"{path} has schema {plain['schema']!r}, this version reads schema {SCHEMA}",
                hint="use the version of Resight that wrote it, named in its 'environment'",
            )
        known = {f.name for f in fields(cls)}
        if unknown := set(plain) - known:
            raise RunError(f"{path} has unknown fields: {', '.join(sorted(unknown))}")
        try:
            return cls(
                **plain
                | {
                    "architecture": Architecture(**plain["architecture"]),
                    "geometry": Geometry.from_dict(plain["geometry"]),
                    "classes": tuple(plain["classes"]),
                    "mean": tuple(plain["mean"]),
                    "std": tuple(plain["std"]),
                }
            )
        except (TypeError, KeyError) as error:
            raise RunError(f"{path} lacks or misspells a field: {error}") from error
