"""A tiny sealed Run, made with the onnx package alone: no PyTorch. It answers with a colour."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save as save_tensors

from resight.images import Geometry
from resight.inference import Predictor
from resight.inference.unknown import NEIGHBOURS, Reference, describe
from resight.runs import CONFIG, ONNX, REFERENCE, SPLIT, WEIGHTS, Architecture, Run, RunCard
from resight.samples import SampleSet, split_csv

SIZE = 8
TEMPERATURE = 2.0
CLASSES = ("blue", "green", "red")
COLOURS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (210, 40, 30)}


def graph(
    classes: int = 3,
    size: int = SIZE,
    *,
    temperature: float = TEMPERATURE,
    input_name: str = "pixels",
    extra: Sequence[TensorProto] = (),
    head: NDArray[np.float32] | None = None,
    task: str = "single",
    channels: int = 3,
) -> onnx.ModelProto:
    """Pixels → normalised → 1 × 1 convolution → ReLU → mean → linear → softmax(logits / temperature), or its sigmoid.

    The convolution passes the three channels on as blue, green, red, and their mean as one more; further ``channels``
    count for nothing.
    """
    colours = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1 / 3] * 3], np.float32).reshape(4, 3, 1, 1)
    colours = np.pad(colours, ((0, 0), (0, channels - 3), (0, 0), (0, 0)))
    head = last_layer(classes) if head is None else head
    constants = {
        "scale": np.float32(255),
        "colours": colours,
        "head": head,
        "bias": np.zeros(classes, np.float32),
        "temperature": np.float32(temperature),
    }
    nodes = [
        helper.make_node("Transpose", [input_name], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["normal"]),
        helper.make_node("Conv", ["normal", "colours"], ["convolved"]),
        helper.make_node("Relu", ["convolved"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "head", "bias"], ["logits"], transB=1),
        helper.make_node("Div", ["logits", "temperature"], ["divided"]),
        helper.make_node("Softmax", ["divided"], ["probabilities"], axis=1)
        if task == "single"
        else helper.make_node("Sigmoid", ["divided"], ["probabilities"]),
    ]
    outputs: dict[str, list[str | int | None]]
    outputs = {"probabilities": ["N", classes], "logits": ["N", classes], "embedding": ["N", 4]}
    outputs["features"] = ["N", 4, size, size]
    proto = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["N", size, size, channels])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()] + list(extra),
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def last_layer(classes: int = 3) -> NDArray[np.float32]:
    """The weights (K, 4) of ``graph``'s last layer; its bias is zero."""
    head = np.random.default_rng(5).normal(size=(classes, 4)).astype(np.float32)
    head[:3] = 6 * np.eye(4, dtype=np.float32)[:classes][:3]
    return head


def make_run(
    path: Path,
    *,
    classes: Sequence[str] = CLASSES,
    model: bytes | None = None,
    data: SampleSet | None = None,
    config: str | None = None,
    fields: Mapping[str, Any] | None = None,
    reference: bytes | None = None,
    tensors: Mapping[str, NDArray[np.float32]] | None = None,
) -> Run:
    """A sealed Run in ``path``; with ``data`` also a config.json and split.csv that point there.

    ``fields`` of the card are replaced before it is sealed. config: the text of config.json.
    reference: the content of reference.safetensors. tensors: of model.safetensors.
    """
    card = RunCard(
        architecture=Architecture("resnet18"),
        classes=tuple(classes),
        channels=3,
        geometry=Geometry("crop", SIZE, SIZE),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        temperature=TEMPERATURE,
    )
    run = Run.create(path, card)
    (path / WEIGHTS).write_bytes(save_tensors(dict(tensors or {"nothing": np.zeros(1, np.float32)})))
    (path / ONNX).write_bytes(model or graph(len(classes)).SerializeToString())
    if data is not None:
        (path / CONFIG).write_text(json.dumps({"data": {"path": str(data.root)}}), "utf-8")
        split_csv.write(path / SPLIT, data)
    if config is not None:
        (path / CONFIG).write_text(config, "utf-8")
    if reference is not None:
        (path / REFERENCE).write_bytes(reference)
    run.update(**fields or {})
    run.seal()
    return run


def make_known_run(path: Path, names: Sequence[str] = (), *, each: int = 20) -> Run:
    """A Run that tells unknown pictures: it has seen ``each`` of every colour, and was validated on as many.

    names: of the training pictures, the colours in turn.
    """
    embed = Predictor(make_run(path.with_name(f"{path.name}-plain")), threads=1).run_pixels
    colours = [*CLASSES] * each
    training, validation = (
        embed(np.stack([picture(colour, first + k, SIZE) for k, colour in enumerate(colours)])).embedding
        for first in (1000, 2000)
    )
    labels = np.arange(len(colours)) % len(CLASSES)
    sources = names or [f"{colour}/{k}.png" for k, colour in enumerate(colours)]
    reference = Reference.fit(training, labels, np.arange(len(colours)), sources)
    unknown = describe(reference.scorer(NEIGHBOURS)(validation), len(labels))
    tensors = {"fc.weight": last_layer(), "fc.bias": np.zeros(3, np.float32)}
    return make_run(path, fields={"unknown": unknown}, reference=reference.to_bytes(), tensors=tensors)


def picture(colour: str, seed: int = 0, side: int = 10) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): the colour, with noise that does not change the answer."""
    noise = np.random.default_rng(seed).integers(-15, 16, (side, side, 3))
    return np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


def write_picture(path: Path, colour: str, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(colour, seed)).save(path, "PNG")
    return path


def write_folder(root: Path, names: Sequence[str] = CLASSES, each: int = 4, colours: Sequence[str] = CLASSES) -> Path:
    """A folder of classes ``names``, with pictures of the colour of the same position."""
    for name, colour in zip(names, colours, strict=True):
        for k in range(each):
            write_picture(root / name / f"{k}.png", colour, k)
    return root
