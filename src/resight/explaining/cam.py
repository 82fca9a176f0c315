"""Class activation maps from the graph's own ``features``: no gradient, no second pass.

For a network that ends in global average pooling and one linear layer, the map of Zhou et al. 2016, section 2, is the
map of Grad-CAM at the last feature map (Selvaraju et al. 2017, section 3.1), up to a positive factor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from resight.errors import RunError
from resight.runs import WEIGHTS, Run

Floats = NDArray[np.float32]
HEAD = "fc.weight"


def head_weights(run: Run) -> Floats:
    """The last linear layer, float32 (K, D). Raises RunError where the Run's weights have none that fits."""
    head = load(run.read(WEIGHTS)).get(HEAD)
    if head is None or head.ndim != 2 or len(head) != len(run.classes):
        raise RunError(f"{run.path / WEIGHTS} has no {HEAD} of {len(run.classes)} classes")
    return head.astype(np.float32)


def class_activation(features: Floats, weights: Floats) -> Floats:
    """For N pictures the sum of their feature maps, each times its weight: (N, D, h, w), (N, D) → (N, h, w).

    Where it is positive, the place speaks for the class; the mean over all places, plus the bias, is the logit.
    """
    heat: Floats = np.einsum("ndhw,nd->nhw", features, weights, optimize=True)
    return heat
