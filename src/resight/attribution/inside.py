"""What happens to a picture inside of the network: its named activations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from resight.attribution.network import Explained, to_tensor

Pixels = NDArray[np.uint8]


def activations(network: Explained, square: Pixels) -> dict[str, NDArray[np.float32]]:
    """Of the square uint8 (S, S, C): ``stem``, ``stage1`` … each float32 (D, h, w), in order; and ``features``, unless
    they are what the last stage gives.
    """
    with torch.inference_mode():
        out = network.net.features(network.normalize(to_tensor(square)))
    same = isinstance(network.net.norm, torch.nn.Identity)
    return {
        name: tensor[0].numpy()
        for name, tensor in out.items()
        if tensor.ndim == 4 and not (same and name == "features")
    }
