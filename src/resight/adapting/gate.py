"""A policy's graph that chooses among a few routes: the last layer is added to what PyTorch exported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.inference.backend import Floats

_POLICY, _ROUTES, _BIAS = "resight.policy", "resight.routes", "resight.bias"


def choosing(data: bytes, routes: NDArray[np.bool_], bias: Floats) -> bytes:
    """The graph of these bytes, whose ``logits`` are a policy's (N, L), with the routes (R, L) for classes: of each the
    log-likelihood of its blocks, up to what all share (the logits of those that are kept, summed), plus its ``bias``
    (R,).
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    made = next(node for node in graph.node if "logits" in node.output)
    made.output[:] = [_POLICY if name == "logits" else name for name in made.output]
    place = list(graph.node).index(made)
    node = helper.make_node("Gemm", [_POLICY, _ROUTES, _BIAS], ["logits"], transB=1, name="resight.choose")
    graph.node.insert(place + 1, node)
    graph.initializer.extend(
        [numpy_helper.from_array(routes.astype(np.float32), _ROUTES), numpy_helper.from_array(bias, _BIAS)]
    )
    for output in graph.output:
        if output.name in ("probabilities", "logits"):
            output.type.tensor_type.shape.dim[1].dim_value = len(routes)
    del graph.value_info[:]  # of as many classes as there are blocks
    onnx.checker.check_model(model, full_check=True)
    found: bytes = model.SerializeToString()
    return found
