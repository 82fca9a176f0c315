"""Early exits: the first stages of a network with a linear head of their own, the rest only where that is unsure.

Teerapittayanon et al. 2016 (BranchyNet), with one exit on a network that is not trained again: the head is fitted to
the frozen maps of training pictures (`resight.transfer.probe`), which are averaged to a grid. What the first part has
computed is not computed twice: its maps go into the rest. Both parts are cut from the same ONNX graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.adapting.cascade import Point, Two, curve, operating_point
from resight.adapting.dropping import blocks_of
from resight.errors import RunError
from resight.evaluation import softmax
from resight.exporting.int8.loss import answers
from resight.exporting.int8.speed import measure_rates
from resight.inference.backend import INPUT, OUTPUTS, Backend, Floats, Pixels
from resight.inference.onnxruntime import OnnxRuntime, _session
from resight.inference.plan import confidence
from resight.transfer.probe import Head, fit

GRIDS = (1, 4)
_FIRST = [("end", 1), ("start", 0)]
_CUT = "features"  # of the contract's outputs the one that is made of maps


def cuts(data: bytes) -> dict[str, str]:
    """By the name of each stage but the last, the tensor that the next one takes. Raises RunError for a network without
    residual blocks that begin with a convolution.
    """
    import onnx

    takes = blocks_of(onnx.load_model_from_string(data))
    first = {name.partition(".")[0]: tensor for name, tensor in reversed(takes.items())}
    stages = sorted(first)
    return {stage: first[after] for stage, after in pairwise(stages)}


def split(data: bytes, cut: str, grid: int, head: Head | None) -> tuple[bytes, bytes]:
    """The graph up to the tensor ``cut``, with the outputs of the contract, where ``features`` are its maps and
    ``embedding`` these, averaged to ``grid`` × ``grid``; and the rest, from ``features`` to ``logits``. head: over the
    embedding; None: one of zeros with two classes, to ask for embeddings before there is one.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
    shape = next(v for v in model.graph.value_info if v.name == cut).type.tensor_type.shape
    channels, high, wide = (side.dim_value for side in list(shape.dim)[1:])
    head = head or Head(np.zeros((2, channels * grid * grid), np.float32), np.zeros(2, np.float32))
    nodes = list(model.graph.node)
    before = _needed(nodes, {cut})
    after = [_counting(node, cut) for node in _needed([node for node in nodes if cut not in node.output], {"logits"})]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {name for node in after for name in node.output}
    crossing = {name for node in after for name in node.input if name} - made - constants.keys()
    if crossing != {cut}:
        raise RunError(f"this network cannot be cut at {cut}: {sorted(crossing)} cross it")
    stride = [high // grid, wide // grid]
    kernel = [side - (grid - 1) * step for side, step in zip((high, wide), stride, strict=True)]
    exit_ = [
        helper.make_node("Identity", [cut], [_CUT]),
        helper.make_node("AveragePool", [cut], ["exit.pooled"], kernel_shape=kernel, strides=stride),
        helper.make_node("Flatten", ["exit.pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "exit.weight", "exit.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    own = [numpy_helper.from_array(head.weight, "exit.weight"), numpy_helper.from_array(head.bias, "exit.bias")]
    shapes: dict[str, list[Any]] = {name: ["N", None] for name in OUTPUTS} | {_CUT: ["N", channels, high, wide]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in OUTPUTS]
    first = _model(model, [*before, *exit_], list(model.graph.input), outputs, own)
    maps = helper.make_tensor_value_info(cut, TensorProto.FLOAT, shapes[_CUT])
    classes = [output for output in model.graph.output if output.name == "logits"]
    return first, _model(model, after, [maps], classes, [])


def _counting(node: Any, cut: str) -> Any:
    """A node of the rest: how many pictures there are, it counts in the maps."""
    own = type(node)()
    own.CopyFrom(node)
    if own.op_type == "Shape" and [(a.name, a.i) for a in sorted(own.attribute, key=lambda a: a.name)] == _FIRST:
        own.input[:] = [cut if name == INPUT else name for name in own.input]
    return own


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _model(whole: Any, nodes: Sequence[Any], inputs: Any, outputs: Any, more: Sequence[Any]) -> bytes:
    import onnx
    from onnx import helper

    asked = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in whole.graph.initializer if tensor.name in asked]
    graph = helper.make_graph(nodes, "part", inputs, outputs, [*constants, *more])
    model = helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    onnx.checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


class EarlyExit:
    """Both parts under the interface that is timed. threshold: of the head's confidence after ``temperature``."""

    def __init__(self, folder: Path, first: bytes, rest: bytes, threads: int) -> None:
        import onnx

        place = folder / "exit.onnx"
        place.write_bytes(first)
        self._first = OnnxRuntime(place, threads)
        self._rest = _session(place, rest, threads)  # takes maps, so it is not of the contract
        self._cut = onnx.load_model_from_string(rest).graph.input[0].name
        self.threshold, self.temperatures = 0.0, (1.0, 1.0)

    def exit(self, pixels: Pixels, name: str = "logits") -> Floats:
        """What the first part answers, (N, …)."""
        return answers(self._first, pixels, (name,))[0]

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """Some of probabilities, logits (each divided by its temperature), and route."""
        logits, maps = self._first.answer(pixels, ("logits", _CUT))
        on = np.flatnonzero(confidence(logits, self.temperatures[0]) < self.threshold)
        found = logits / np.float32(self.temperatures[0])
        if len(on):
            (rest,) = self._rest.run(["logits"], {self._cut: maps[on]})
            found[on] = rest / np.float32(self.temperatures[1])
        route = np.zeros(len(pixels), np.float32)
        route[on] = 1
        made = {"logits": found, "route": route, "probabilities": softmax(found).astype(np.float32)}
        return [made[name] for name in outputs]


class At:
    """One of the same parts with a threshold of its own, for timing."""

    def __init__(self, parts: EarlyExit, threshold: float) -> None:
        self._parts, self._threshold = parts, threshold

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        self._parts.threshold = self._threshold
        return self._parts.answer(pixels, outputs)


def tried(
    work: Any, train: tuple[Pixels, NDArray[np.int64]], max_drop: float, folder: Path, seed: int
) -> Iterator[tuple[str, EarlyExit, Point | None, float]]:
    """For each stage and grid: its name, both parts, the operating point on validation within ``max_drop`` points (None
    where there is none that is faster than the whole network; its time is a part of that one's, as timed in turns), and
    the head's accuracy there. work: `workshop.bench`. train: squares uint8 (N, S, S, C) that the heads are fitted to,
    and labels.
    """
    data = work.run.read("model.onnx")
    for stage, cut in cuts(data).items():
        for grid in GRIDS:  # not finer than the maps: 4 × 4 of the last stage but one, at 28 px and more
            blank = EarlyExit(folder, *split(data, cut, grid, None), work.threads)
            seen, held = (blank.exit(pixels, "embedding")[:, None] for pixels in (train[0], work.pixels))
            head, _ = fit((seen, train[1], [None] * len(seen)), (held, work.labels), len(work.run.classes), seed)
            parts = EarlyExit(folder, *split(data, cut, grid, head), work.threads)
            logits = parts.exit(work.pixels)
            sides: dict[str, Backend] = {"whole": work.whole, "exit": At(parts, 0.0), "all": At(parts, 2.0)}
            rates = measure_rates(sides, work.shape)
            first, both = (rates["whole"].one / rates[name].one for name in ("exit", "all"))
            two = Two.of(logits, work.logits, work.labels, (first, max(both - first, 0.0)))
            point = operating_point(curve(two), work.accuracy, max_drop)
            if point is not None and point.seconds >= 1:
                point = None
            parts.temperatures = two.temperatures
            parts.threshold = 0.0 if point is None else point.threshold
            accuracy = float((logits.argmax(1) == work.labels).mean())
            yield f"after {stage}, {grid} × {grid}", parts, point, accuracy
