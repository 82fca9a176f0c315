"""The Run's model.onnx made ready for quantizing: named nodes, a temperature that can be replaced, its layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.errors import RunError

Proto = Any
"""An ``onnx.ModelProto``."""
TEMPERATURE = "resight.temperature"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PLAIN = {"Add": "add", "Mul": "mul", "AveragePool": "pool", "GlobalAveragePool": "pool", "ReduceMean": "pool"}
"""What NNCF quantizes besides, and what such a layer is called, below the block that it ends."""
_BLOCK = re.compile(r"(layer\d+\.\d+)\.")


@dataclass(frozen=True)
class Layer:
    """What is kept in fp32 as one: a node, or all of a block. name: as PyTorch calls it (``layer1.0.conv2``), or
    ``layer1.0.add`` for what has no weights. nodes: the graph's names. addition: of two activations, as shortcuts end.
    """

    name: str
    nodes: tuple[str, ...]
    addition: bool = False


def prepared(data: bytes, temperature: float) -> Proto:
    """The graph of these bytes; every node has a name, and its probabilities come from ``TEMPERATURE``, an initializer.

    Raises RunError for probabilities that are not a softmax or sigmoid of the logits, perhaps divided.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    graph = model.graph
    taken = {node.name for node in graph.node}
    for number, node in enumerate(graph.node):
        if not node.name:
            node.name = _free(f"{node.op_type}_{number}", taken)
            taken.add(node.name)
    made_by = {output: node for node in graph.node for output in node.output}
    last = made_by.get("probabilities")
    if last is None or last.op_type not in ("Softmax", "Sigmoid"):
        raise RunError("model.onnx does not end in a softmax or sigmoid, which int8 needs", hint="import the Run again")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(temperature, np.float32), TEMPERATURE))
    if last.input[0] == "logits":
        divided = onnx.helper.make_node("Div", ["logits", TEMPERATURE], ["resight.divided"], name="resight.divide")
        graph.node.insert(list(graph.node).index(last), divided)
        last.input[0] = "resight.divided"
    else:
        before = made_by.get(last.input[0])
        if before is None or before.op_type != "Div" or before.input[0] != "logits":
            raise RunError("model.onnx: the probabilities are not made of logits / temperature")
        before.input[1] = TEMPERATURE
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)  # ONNX Runtime prints a warning for the old temperature
    return model


def with_temperature(model: Proto, temperature: float) -> Proto:
    """A copy with another temperature; nothing else changes."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (place,) = (tensor for tensor in copy.graph.initializer if tensor.name == TEMPERATURE)
    place.CopyFrom(onnx.numpy_helper.from_array(np.array(temperature, np.float32), TEMPERATURE))
    return copy


def described(model: Proto, facts: Mapping[str, str]) -> Proto:
    """The same graph, which says so much of itself in its metadata."""
    import onnx

    onnx.helper.set_model_props(model, dict(facts))
    return model


def layers_of(model: Proto, *, plain: bool) -> tuple[Layer, ...]:
    """Its layers in the order of the graph: those with weights, and with ``plain`` those without that NNCF quantizes,
    too.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    found: list[Layer] = []
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for node in graph.node:
        weights = [name for name in node.input[1:2] if name in constants]
        if node.op_type in WEIGHTED and weights:
            name = weights[0].removeprefix("net.").removesuffix(".weight")
        elif plain and node.op_type in PLAIN and not any(name in constants for name in _data(node)):
            above = _weighted_above(node, made_by, names)
            if above is None:
                continue  # arithmetic of shapes
            name = f"{above.rpartition('.')[0] or above}.{PLAIN[node.op_type]}"
        else:
            continue
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name}-{seen[name]}"
        names[node.name] = name
        found.append(Layer(name, (node.name,), node.op_type == "Add"))
    return tuple(found)


def blocks_of(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The same, those of one residual block together."""
    together: dict[str, list[Layer]] = {}
    for layer in layers:
        block = _BLOCK.match(layer.name)
        together.setdefault(block[1] if block else layer.name, []).append(layer)
    return tuple(Layer(name, tuple(node for layer in some for node in layer.nodes)) for name, some in together.items())


def _data(node: Proto) -> list[str]:
    """The inputs that are activations: of a pool only the first, the others are its axes."""
    return list(node.input[:1] if PLAIN[node.op_type] == "pool" else node.input)


def _weighted_above(node: Proto, made_by: dict[str, Proto], names: dict[str, str]) -> str | None:
    """The nearest layer that the first activation comes from."""
    while node is not None and node.input:
        node = made_by.get(node.input[0])
        if node is not None and node.name in names:
            return names[node.name]
    return None


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
