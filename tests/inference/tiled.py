"""A tiny Run whose pictures are cut into tiles, made without PyTorch: red tiles have its attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from resight.images import Geometry, cut, tile_boxes
from resight.runs import Run

from .tiny import SIZE, graph, last_layer, make_run

GEOMETRY = Geometry("tiles", SIZE, SIZE, tile=2 * SIZE, stride=SIZE)
GAZE = np.array([[-30.0, 10.0, 60.0, 1.0]], np.float32)


def tiled_graph(attention: bool = True) -> onnx.ModelProto:
    """``tiny.graph`` with attention(embedding) = ``GAZE`` · embedding."""
    model = graph()
    if attention:
        model.graph.initializer.append(numpy_helper.from_array(GAZE.T, "gaze"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
        model.graph.node.append(helper.make_node("MatMul", ["embedding", "gaze"], ["gazed"]))
        model.graph.node.append(helper.make_node("Squeeze", ["gazed", "axis"], ["attention"]))
        model.graph.output.append(helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["N"]))
    return model


def tiled_run(path: Path, **more: Any) -> Run:
    fields = {"geometry": GEOMETRY} | more.pop("fields", {})
    more.setdefault("model", tiled_graph().SerializeToString())
    tensors = {"fc.weight": last_layer(), "fc.bias": np.zeros(3, np.float32)}
    return make_run(path, fields=fields, tensors=tensors, **more)


def photo(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Grey noise with one patch of colour."""
    random = np.random.default_rng(seed)
    pixels = np.repeat(random.integers(60, 160, (height, width, 1), dtype=np.uint8), 3, axis=2)
    y, x = random.integers(0, max(1, height - 8)), random.integers(0, max(1, width - 8))
    pixels[y : y + 8, x : x + 8] = [(200, 40, 30), (30, 200, 40), (20, 30, 220)][seed % 3]
    return pixels


def expected(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Logits, embedding and shares of a picture, slowly: each tile by Pillow, one softmax over all."""
    tiles = cut(GEOMETRY, picture, tile_boxes(GEOMETRY, *picture.shape[:2])).astype(np.float64) / 255
    colours = tiles.mean(axis=(1, 2))
    embedding = np.concatenate([colours[:, ::-1], colours.mean(axis=1, keepdims=True)], axis=1)
    gaze = embedding @ GAZE[0].astype(np.float64)
    share = np.exp(gaze - gaze.max())
    share /= share.sum()
    return share @ (embedding @ last_layer().T.astype(np.float64)), share @ embedding, share
