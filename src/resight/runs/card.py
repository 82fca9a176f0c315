"""``run.json``: what a Run is, as plain dataclasses."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from resight.errors import RunError, UsageError
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
    unknown: how pictures unlike the training data are told: score, threshold and more
    (:mod:`resight.inference.unknown`); empty where they are not, as of imported weights and earlier Runs.
    transfer: what became of weights from elsewhere: the rungs, what was kept and why; empty without them and in earlier
    Runs.
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
    unknown: dict[str, Any] = field(default_factory=dict)
    transfer: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    source: str = ""
    created: str = ""
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        plain = asdict(self) | {"geometry": self.geometry.to_dict()}
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode("utf-8", "backslashreplace")  # undecodable file names, as JSON escapes

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> RunCard:
        """Raises RunError for anything that is not a run.json of a schema that this version knows."""
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError) as error:
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
            card = cls(
                **plain
                | {
                    "architecture": Architecture(**plain["architecture"]),
                    "geometry": Geometry.from_dict(plain["geometry"]),
                    "classes": tuple(plain["classes"]),
                    "mean": tuple(plain["mean"]),
                    "std": tuple(plain["std"]),
                }
            )
        except (TypeError, KeyError, ValueError, UsageError) as error:
            raise RunError(f"{path} lacks or misspells a field: {error}") from error
        if wrong := impossible(card):
            raise RunError(f"{path} has an impossible value in: {', '.join(wrong)}")
        return card


def impossible(card: RunCard) -> list[str]:
    """Fields whose values nothing may rely on: the card may come from anywhere."""

    def numbers(values: Any, least: float) -> bool:
        return len(values) == card.channels and all(
            isinstance(v, int | float) and math.isfinite(v) and v > least for v in values
        )

    def texts(values: Any) -> bool:
        return all(isinstance(v, str) for v in values)

    sound = {
        "classes": bool(card.classes) and texts(card.classes) and len(set(card.classes)) == len(card.classes),
        "channels": card.channels in (1, 3),
        "mean": numbers(card.mean, -math.inf),
        "std": numbers(card.std, 0),
        "status": card.status in get_args(Status),
        "temperature": _number(card.temperature) and card.temperature > 0,
        "data": isinstance(card.data, dict),
        "metrics": isinstance(card.metrics, dict),
        "unknown": _sound_unknown(card.unknown),
        "transfer": isinstance(card.transfer, dict),
        "files": isinstance(card.files, dict) and texts(card.files) and texts(card.files.values()),
    }
    return [name for name, good in sound.items() if not good]


_LARGEST = 1e30  # a float32 holds it, and no honest value comes near


def _number(value: Any) -> bool:
    """From 0 up to what a float32 holds. ``True`` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _sound_unknown(unknown: Any) -> bool:
    if not isinstance(unknown, dict):
        return False
    limit, k = unknown.get("threshold"), unknown.get("k")
    return not unknown or (isinstance(unknown.get("score"), str) and _number(limit) and type(k) is int and k >= 1)
