"""The same network at a lower resolution: its graph with the downsampling inside, so that it takes the Run's pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.exporting.int8.ir import BIN, XML, saved
from resight.images import printable
from resight.inference.backend import INPUT, OUTPUTS
from resight.inference.ir import check_ir

Proto = Any
"""An ``onnx.ModelProto``."""


def shrinking(before: int, after: int) -> NDArray[np.float32]:
    """(after, before): the rows of a bilinear filter as wide as the reduction, as Pillow's ``BILINEAR`` and
    ``antialias=True`` elsewhere compute it: a triangle of ``before / after`` pixels to each side.
    """
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(before) + 0.5 - centres) / scale)
    found: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def smaller(data: bytes, side: int, size: int) -> bytes:
    """The graph of these bytes, which takes uint8 (N, side, side, C) and answers as the network does for pictures of
    ``size`` px, below ``side``: its own size, or one that it was not trained at.

    The reduction is two matrix products, which every runtime computes alike; not all have an antialiased Resize.
    ``features`` have the smaller network's height and width.

    Raises RunError for a graph that is not of the contract, or that works at its own size only.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    given = graph.input[0] if len(graph.input) == 1 else None
    shape = [] if given is None else given.type.tensor_type.shape.dim
    if given is None or given.name != INPUT or len(shape) != 4 or not side > size > 0:
        raise RunError(f"this graph cannot be asked for pictures of {side} px at {size} px")
    channels = shape[3].dim_value
    shape[1].dim_value = shape[2].dim_value = side
    for node in graph.node:
        node.input[:] = ["resight.small" if name == INPUT else name for name in node.input]
    constants: dict[str, NDArray[Any]] = {
        "resight.rows": np.array([0, side, side * channels], np.int64),
        "resight.squares": np.array([0, size, side, channels], np.int64),
        "resight.shrink": shrinking(side, size),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes = [
        helper.make_node("Cast", [INPUT], ["resight.floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["resight.floats", "resight.rows"], ["resight.flat"]),
        helper.make_node("MatMul", ["resight.shrink", "resight.flat"], ["resight.lower"]),
        helper.make_node("Reshape", ["resight.lower", "resight.squares"], ["resight.strips"]),
        helper.make_node("MatMul", ["resight.shrink", "resight.strips"], ["resight.small"]),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    del graph.value_info[:]  # of the larger maps
    for output in graph.output:
        if output.name == OUTPUTS[3]:
            for number, dimension in enumerate(output.type.tensor_type.shape.dim):
                if number > 1:
                    dimension.dim_param = f"side{number - 1}"
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RunError(f"this network cannot be asked at {size} px: {error}") from error
    found: bytes = model.SerializeToString()
    return found


def smaller_ir(data: bytes, weights: bytes, side: int, size: int) -> tuple[bytes, bytes]:
    """The same for OpenVINO's own format: its XML and its numbers. What it computes in int8 stays so.

    Raises RunError for what is no such file, or works at its own size only.
    """
    from resight.inference.openvino import core, load_openvino

    load_openvino()
    from openvino import opset13 as ops

    if not side > size > 0:
        raise RunError(f"this graph cannot be asked for pictures of {side} px at {size} px")
    try:
        check_ir(data)
        model = core().read_model(model=data, weights=weights)
        (before,) = model.get_parameters()
        channels = before.get_partial_shape()[3].get_length()
        pixels = ops.parameter([-1, side, side, channels], np.uint8)
        pixels.output(0).set_names({INPUT})
        matrix = ops.constant(shrinking(side, size))
        rows, squares = (np.array(shape, np.int64) for shape in ((0, side, side * channels), (0, size, side, channels)))
        flat = ops.reshape(ops.convert(pixels, np.float32), ops.constant(rows), special_zero=True)
        strips = ops.reshape(ops.matmul(matrix, flat, False, False), ops.constant(squares), special_zero=True)
        small = ops.matmul(matrix, strips, False, False)
        for reader in before.output(0).get_target_inputs():
            reader.replace_source_output(small.output(0))
        model.remove_parameter(before)
        model.add_parameters([pixels])
        model.validate_nodes_and_infer_types()
    except (ValueError, RuntimeError) as error:
        raise RunError(f"this network cannot be asked at {size} px: {printable(str(error))}") from error
    files = saved(model)
    return files[XML], files[BIN]
