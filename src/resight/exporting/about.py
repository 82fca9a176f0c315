"""What an exported file says of itself, so that it can be used with nothing beside it; and whether that is so.

Each fact is JSON under ``resight.NAME``: in the metadata of an ONNX file, in the ``rt_info`` of OpenVINO's IR,
elsewhere in a file beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from resight.errors import ParityError
from resight.images import printable
from resight.inference.openvino import core
from resight.runs import ONNX, RunCard

ABOUT = "resight.json"
"""The facts beside a file of a format that has no place for them."""
_PREFIX = "resight"


def about(card: RunCard) -> dict[str, str]:
    """What a graph that is taken away says of itself: JSON by name. card: of the Run, with what the artefact has of its
    own.
    """
    plain = {
        "classes": card.classes,
        "geometry": card.geometry.to_dict(),
        "channels": card.channels,
        "mean": card.mean,
        "std": card.std,
        "task": card.task,
        "temperature": card.temperature,
        "architecture": card.architecture.name,
        "run": card.files[ONNX],
        "environment": card.environment,
    }
    if card.task == "multi":
        plain["thresholds"] = [threshold.value for threshold in card.thresholds]
    return {f"{_PREFIX}.{name}": json.dumps(value) for name, value in plain.items()}


def to_file(facts: Mapping[str, str]) -> str:
    """The facts as the text of ``ABOUT``."""
    return json.dumps({name: json.loads(value) for name, value in facts.items()}, indent=2)


def from_file(text: str) -> dict[str, str]:
    """The facts in a text that ``to_file`` made."""
    return {name: json.dumps(value) for name, value in json.loads(text).items()}


def said_by_onnx(path: Path) -> dict[str, str]:
    """The facts in an ONNX file's metadata."""
    import onnx

    entries = onnx.load(path, load_external_data=False).metadata_props
    return {entry.key: entry.value for entry in entries if entry.key.startswith(f"{_PREFIX}.")}


def said_by_ir(path: Path) -> dict[str, str]:
    """The facts in the ``rt_info`` of an IR, as OpenVINO reads it."""
    model = core().read_model(path)
    if not model.has_rt_info([_PREFIX]):
        return {}
    names = list(model.get_rt_info([_PREFIX]).value)
    return {f"{_PREFIX}.{name}": str(model.get_rt_info([_PREFIX, name]).value) for name in names}


def check_said(card: RunCard, said: Mapping[str, str], name: str) -> None:
    """Raises ParityError where the facts read back from an artefact's own file are not those of ``card``: whoever takes
    the file away would make other squares, or read other names.
    """
    for key, expected in about(card).items():
        if said.get(key) != expected:
            raise ParityError(
                f"the file of the artefact {name!r} says {key} = {printable(str(said.get(key)), 200)}; expected "
                f"{printable(expected, 200)}. It was not kept, an earlier one stays",
                hint="this is a defect of the export: please report it with the versions",
            )
