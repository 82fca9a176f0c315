"""A network made fragile on purpose: the same function in fp32, and a wreck in int8.

One output channel of a convolution is made 1,000 times larger, and the weights that read it 1,000 times smaller. A ReLU
in between passes the factor on, so nothing changes but roundings. Activations are quantized with one scale for all
channels: the others are left with a quarter of one of the 255 steps. The weights that read the channel round to 0.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def make_fragile(model: onnx.ModelProto, first: str, second: str, channel: int = 0, factor: float = 1000.0) -> None:
    """In place. first, second: names of the weights of two convolutions (or a convolution and what reads its pooled
    output by channel) with nothing between them but ReLU; the first's bias is its node's third input.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    (above,) = (node for node in model.graph.node if node.op_type == "Conv" and node.input[1] == first)
    for name in list(above.input)[1:]:
        _scale(constants[name], (channel,), factor)
    _scale(constants[second], (slice(None), channel), 1 / factor)


def _scale(tensor: onnx.TensorProto, place: tuple[int | slice, ...], factor: float) -> None:
    values = numpy_helper.to_array(tensor).copy()
    values[place] *= np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
