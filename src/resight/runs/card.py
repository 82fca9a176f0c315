"""``run.json``: what a Run is, as plain dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from resight.errors import RunError, UsageError
from resight.images import MAX_CHANNELS, Geometry
from resight.runs.plain_json import json_bytes, read_json

SCHEMA = 1
Status = Literal["training", "trained", "sealed"]


@dataclass(frozen=True)
class Architecture:
    """A name of the family, the fields of its spec that differ from it, and its size."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0


@dataclass(frozen=True)
class Threshold:
    """Of one class of a multi-label Run: from the probability ``value`` on it is answered. positives: validation
    pictures that have it. fitted: whether the value was chosen by them; else it is 0.5.
    """

    value: float
    positives: int = 0
    fitted: bool = False


@dataclass(frozen=True)
class RunCard:
    """Everything that another program must know to use the Run.

    task: ``single``, one class a picture: probabilities are a softmax; ``multi``, any number: each is a sigmoid, and
    ``thresholds`` has one for each class, in their order; ``features``, none: a network that was pretrained without
    labels answers with embeddings alone, and has no classes.
    classes: names in the order of the outputs. channels: 1 (grey), 3 (RGB), or up to 16.
    mean, std: per channel, of pixels in [0, 1]. temperature: logits are divided by it before the softmax or sigmoid.
    calibrated: whether the temperature was fitted on validation pictures (imported weights have none).
    data: fingerprint, counts by part, skipped files. metrics: by part (``val``, ``test``), each the
    dictionary of :class:`resight.evaluation.Evaluation`, or of ``MultilabelEvaluation``.
    parity: ONNX against PyTorch, measured when sealed.
    unknown: how pictures unlike the training data are told: score, threshold and more
    (:mod:`resight.inference.unknown`); empty where they are not, as of imported weights and earlier Runs.
    continues: of a Run that continues another one: which (path, SHA-256 of its weights), how many classes it had, which
    of them had no pictures, how many of its validation and test pictures stayed, how good it was; else empty.
    transfer: what became of weights from elsewhere: the rungs, what was kept and why; empty without them and in earlier
    Runs.
    pretraining: of a Run with the task ``features``: method, pictures and crops that it saw, the last signals; else
    empty.
    files: SHA-256 of every file that belongs to the sealed Run.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    channels: int
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    status: Status = "training"
    task: Literal["single", "multi", "features"] = "single"
    temperature: float = 1.0
    calibrated: bool = False
    thresholds: tuple[Threshold, ...] = ()
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
    continues: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        plain = asdict(self) | {"geometry": self.geometry.to_dict()}
        return json_bytes(plain)

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> RunCard:
        """Raises RunError for anything that is not a run.json of a schema that this version knows."""
        try:
            plain = read_json(data)
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
            card = cls(
                **plain
                | {
                    "architecture": Architecture(**plain["architecture"]),
                    "geometry": Geometry.from_dict(plain["geometry"]),
                    "classes": tuple(plain["classes"]),
                    "mean": tuple(plain["mean"]),
                    "std": tuple(plain["std"]),
                    "thresholds": tuple(Threshold(**one) for one in plain.get("thresholds", ())),
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
        return len(values) == card.channels and all(isinstance(v, int | float) and least < v < _LARGEST for v in values)

    def texts(values: Any) -> bool:
        return all(isinstance(v, str) for v in values)

    sound = {
        "classes": bool(card.classes) == (card.task != "features")
        and texts(card.classes)
        and len(set(card.classes)) == len(card.classes),
        "channels": type(card.channels) is int and 1 <= card.channels <= MAX_CHANNELS,
        "mean": numbers(card.mean, -_LARGEST),
        "std": numbers(card.std, 0),
        "status": card.status in get_args(Status),
        "task": card.task in ("single", "multi", "features"),
        "thresholds": _sound_thresholds(card),
        "temperature": _number(card.temperature) and card.temperature > 0,
        "data": isinstance(card.data, dict),
        "metrics": isinstance(card.metrics, dict),
        "unknown": _sound_unknown(card.unknown),
        "continues": _sound_continues(card),
        "transfer": isinstance(card.transfer, dict),
        "pretraining": isinstance(card.pretraining, dict) and bool(card.pretraining) == (card.task == "features"),
        "files": isinstance(card.files, dict) and texts(card.files) and texts(card.files.values()),
    }
    return [name for name, good in sound.items() if not good]


_LARGEST = 1e30  # a float32 holds it, and no honest value comes near


def _number(value: Any) -> bool:
    """From 0 up to what a float32 holds. ``True`` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _sound_thresholds(card: RunCard) -> bool:
    """One for each class of a finished multi-label Run, within 0 … 1; none of any other."""
    if card.task != "multi" or (card.status != "sealed" and not card.thresholds):
        return not card.thresholds
    return len(card.thresholds) == len(card.classes) and all(_number(t.value) and t.value <= 1 for t in card.thresholds)


def _sound_unknown(unknown: Any) -> bool:
    if not isinstance(unknown, dict):
        return False
    limit, k = unknown.get("threshold"), unknown.get("k")
    return not unknown or (isinstance(unknown.get("score"), str) and _number(limit) and type(k) is int and k >= 1)


def _sound_continues(card: RunCard) -> bool:
    told = card.continues
    if not isinstance(told, dict):
        return False
    texts = isinstance(told.get("run"), str) and isinstance(told.get("sha256"), str)
    count = told.get("classes")
    return not told or (texts and type(count) is int and 1 <= count <= len(card.classes))
