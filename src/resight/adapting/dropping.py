"""A graph with some residual blocks left out: what is dropped takes no time (Wu et al. 2018, BlockDrop)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from resight.errors import RunError

Proto = Any
"""An ``onnx.ModelProto``."""
_BLOCK = re.compile(r"(?:net\.)?(layer\d+\.\d+)\.conv1\.weight")


def blocks_of(model: Proto) -> dict[str, str]:
    """By the name of each residual block (``layer1.0``), in the order of the graph, the tensor that it takes.

    Raises RunError where a block's first layer is not a convolution, as with activations before the weights.
    """
    found: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.input[1:2]:
            if node.op_type == "Conv" and (match := _BLOCK.fullmatch(name)):
                found[match[1]] = node.input[0]
    relus = {node.output[0] for node in model.graph.node if node.op_type in ("Relu", "MaxPool", "Conv")}
    if not found or any(tensor not in relus for tensor in found.values()):
        raise RunError("this graph has no residual blocks that can be left out")
    return found


def without(data: bytes, dropped: Sequence[str]) -> bytes:
    """The graph of these bytes without the blocks of these names, whose shortcuts are identities: what a block takes is
    passed on. Layers that nothing needs any more are removed.

    Raises RunError for blocks that the graph does not have.
    """
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(data)
    graph, takes = model.graph, blocks_of(model)
    names = list(takes)
    if unknown := [name for name in dropped if name not in takes]:
        raise RunError(f"this graph has no block {unknown[0]}; it has {', '.join(names)}")
    outputs = {output.name for output in graph.output}
    gives = dict(zip(names, [*list(takes.values())[1:], "features"], strict=True))
    for name in sorted(dropped, key=names.index, reverse=True):  # from the last on: what replaces is itself replaced
        before, after = takes[name], gives[name]
        for node in graph.node:
            node.input[:] = [before if tensor == after else tensor for tensor in node.input]
        if after in outputs:
            made = next(node for node in graph.node if after in node.output)
            made.output[:] = [f"resight.unused.{name}" if tensor == after else tensor for tensor in made.output]
            place = list(graph.node).index(made)
            graph.node.insert(place + 1, helper.make_node("Identity", [before], [after], name=f"resight.{name}"))
            gives = {key: before if tensor == after else tensor for key, tensor in gives.items()}
            outputs.discard(after)
    _remove_unused(model)
    onnx.checker.check_model(model, full_check=True)
    found: bytes = model.SerializeToString()
    return found


def _remove_unused(model: Proto) -> None:
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.value_info if value.name not in needed]:
        graph.value_info.remove(value)
