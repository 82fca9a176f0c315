"""Inference requests and responses of the Open Inference Protocol (REST, version 2), with Triton's extensions
``binary_tensor_data`` and ``classification``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.inference import UNLIKE, dump_json
from resight.inference.backend import Pixels
from resight.runs.plain_json import read_json
from resight.serving import tensors
from resight.serving.batcher import Row
from resight.serving.models import Loaded
from resight.serving.refusals import Refused, malformed

LENGTH_HEADER = "Inference-Header-Content-Length"
LABEL, SCORE = "label", "unknown_score"
FLOATS = ("probabilities", "logits", "embedding")
_REQUEST = {"id", "parameters", "inputs", "outputs"}
_RESULTS = ("probabilities", "logits")


@dataclass(frozen=True)
class Output:
    """One output as it was asked for. classes: so many of the best as texts (0: the numbers)."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Question:
    """A request that is understood. seconds: the client's own deadline."""

    id: str | None
    pictures: list[bytes] | list[Pixels]
    outputs: tuple[Output, ...]
    seconds: float | None


def describe(model: Loaded) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The inputs and outputs of a model, as its metadata names them; -1 stands for the number of pictures."""
    card, classes = model.predictor.card, len(model.predictor.classes)
    size = card.geometry.size
    inputs = [
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, size, size, card.channels]},
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
    ]
    outputs: list[dict[str, Any]] = [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        {"name": "logits", "datatype": "FP32", "shape": [-1, classes]},
        {"name": "embedding", "datatype": "FP32", "shape": [-1, model.width]},
        {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
    ]
    if model.predictor.unknowns is not None:
        outputs.append({"name": SCORE, "datatype": "FP32", "shape": [-1]})
    return inputs, outputs


def parse(body: bytes, header_length: str | None, model: Loaded, json_bytes: int) -> Question:
    """Understands a request's body. Raises Refused: 400 for what is malformed, 413 for too much JSON."""
    text, binary = _split(body, header_length)
    if len(text) > json_bytes:
        raise Refused(
            413, "too_large", f"{len(text)} bytes of JSON, more than the limit of {json_bytes}: send tensors as binary"
        )
    request = _object(parse_json(text), "the request", _REQUEST, ("inputs",))
    if not isinstance(request.get("id", ""), str):
        raise malformed("the id is not a text")
    known = ("binary_data_output", "timeout")
    parameters = _object(request.get("parameters", {}), "the parameters of the request", known)
    every = _flag(parameters, "binary_data_output", False)
    outputs = _outputs(request.get("outputs"), model, every)
    return Question(request.get("id"), _pictures(request["inputs"], binary, model), outputs, _seconds(parameters))


def parse_json(data: bytes) -> Any:
    """Raises Refused (400) for what is no JSON, has NaN or infinite numbers, or is nested too deeply."""
    try:
        return read_json(data)
    except ValueError as error:
        raise malformed(f"the body is not valid JSON: {str(error)[:100]}") from None


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON, and the binary data after it."""
    if header_length is None:
        return body, memoryview(b"")
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 16
    if not digits or int(header_length) > len(body):
        raise malformed(f"{LENGTH_HEADER} is not a number up to the {len(body)} bytes of the body")
    return body[: int(header_length)], memoryview(body)[int(header_length) :]


def _object(value: Any, what: str, known: Sequence[str] | set[str], needed: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object of known names. Raises Refused (400)."""
    if not isinstance(value, dict):
        raise malformed(f"{what}: expected a JSON object")
    if strange := [name for name in value if name not in known]:
        raise malformed(f"{what}: there is no {strange[0][:100]!r}; known: {', '.join(sorted(known))}")
    if missing := [name for name in needed if name not in value]:
        raise malformed(f"{what}: {missing[0]!r} is missing")
    return value


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise malformed(f"{name} is not true or false")
    return value


def _seconds(parameters: dict[str, Any]) -> float | None:
    """``timeout``, in microseconds as in Triton; 0 says nothing."""
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise malformed("timeout is not a whole number of microseconds")
    return min(value, 10**12) / 1e6 or None


def _pictures(inputs: Any, binary: memoryview, model: Loaded) -> list[bytes] | list[Pixels]:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise malformed("expected exactly one input: pixels or image")
    known = ("name", "shape", "datatype", "parameters", "data")
    tensor = _object(inputs[0], "an input", known, ("name", "shape", "datatype"))
    types = {"pixels": "UINT8", "image": "BYTES"}
    name = tensor["name"]
    if not isinstance(name, str) or name not in types:
        raise malformed("there is no such input; expected pixels or image")
    if tensor["datatype"] != types[name]:
        raise malformed(f"the input {name} has another datatype; expected {types[name]}")
    size, channels = model.predictor.card.geometry.size, model.predictor.card.channels
    expected: tuple[int | None, ...] = (None, size, size, channels) if name == "pixels" else (None,)
    shape = tensors.shape_of(tensor["shape"], name, expected)
    parameters = _object(tensor.get("parameters", {}), f"the parameters of {name}", ("binary_data_size",))
    if "binary_data_size" in parameters:
        if "data" in tensor:
            raise malformed(f"the input {name} has data and binary_data_size: give one of them")
        if type(parameters["binary_data_size"]) is not int or parameters["binary_data_size"] != len(binary):
            raise malformed(f"binary_data_size of {name} is not the {len(binary)} bytes after the JSON")
        if name == "image":
            return tensors.images_from_bytes(binary, shape[0])
        return list(tensors.pixels_from_bytes(binary, shape))
    if len(binary):
        raise malformed(f"{len(binary)} bytes follow the JSON, but {name} has no binary_data_size")
    if "data" not in tensor:
        raise malformed(f"the input {name} has no data")
    if name == "image":
        return tensors.images_from_json(tensor["data"], shape[0])
    return list(tensors.pixels_from_json(tensor["data"], shape))


def _outputs(wanted: Any, model: Loaded, every: bool) -> tuple[Output, ...]:
    """What was asked for; all outputs where nothing was."""
    names = [output["name"] for output in describe(model)[1]]
    if wanted is None or wanted == []:
        return tuple(Output(name, every) for name in names)
    if not isinstance(wanted, list) or len(wanted) > len(names):
        raise malformed(f"outputs are not a list of at most {len(names)}")
    found = []
    for item in wanted:
        output = _object(item, "an output", ("name", "parameters"), ("name",))
        name = output["name"]
        if not isinstance(name, str) or name not in names:
            raise malformed(f"there is no such output; expected some of {', '.join(names)}")
        known = ("binary_data", "classification")
        parameters = _object(output.get("parameters", {}), f"the parameters of {name}", known)
        count = parameters.get("classification", 0)
        if type(count) is not int or count < 0 or (count and name not in _RESULTS):
            raise malformed(f"classification is a whole number, for {' and '.join(_RESULTS)}")
        found.append(Output(name, _flag(parameters, "binary_data", every), min(count, len(model.predictor.classes))))
    if len({output.name for output in found}) != len(found):
        raise malformed("an output is asked for twice")
    return tuple(found)


def needed(outputs: Sequence[Output]) -> tuple[str, ...]:
    """What the network must be asked for."""
    sources = {LABEL: "probabilities", SCORE: UNLIKE}
    return tuple(dict.fromkeys(sources.get(output.name, output.name) for output in outputs))


def respond(question: Question, model: Loaded, rows: Sequence[Row]) -> tuple[bytes, dict[str, str]]:
    """The body of the response and its headers."""
    listed: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    for output in question.outputs:
        array = _array(output, model, rows)
        datatype = "BYTES" if array.dtype == object else "FP32"
        entry: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": list(array.shape)}
        if output.binary:
            pieces.append(tensors.to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            entry["data"] = tensors.to_json(array)
        listed.append(entry)
    head: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "outputs": listed}
    text = dump_json(head if question.id is None else {"id": question.id, **head}).encode("utf-8")
    if not any(output.binary for output in question.outputs):
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return b"".join([text, *pieces]), headers


def _array(output: Output, model: Loaded, rows: Sequence[Row]) -> NDArray[Any]:
    classes = model.predictor.classes
    if output.name == LABEL:
        return tensors.texts([classes[int(row["probabilities"].argmax())] for row in rows], (len(rows),))
    if output.name == SCORE:
        return np.array([row[UNLIKE] for row in rows], np.float32)
    array = np.stack([row[output.name] for row in rows])
    if not output.classes:
        return array
    found = []
    for row in array:
        best = np.argsort(-row, kind="stable")[: output.classes]
        found += [f"{row[k]!s}:{k}:{classes[k]}" for k in best]
    return tensors.texts(found, (len(rows), output.classes))
