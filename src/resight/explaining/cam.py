"""Class activation maps from the graph's own ``features``: no gradient, no second pass.

For a network that ends in global average pooling and one linear layer, the map of Zhou et al. 2016, section 2, is the
map of Grad-CAM at the last feature map (Selvaraju et al. 2017, section 3.1), up to a positive factor. Every network of
the family ends so: also the pre-activation ones, whose last norm and ReLU come before ``features``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from resight.errors import RunError
from resight.inference import Predictor
from resight.inference.heads import BIAS, HEAD, Head
from resight.runs import WEIGHTS, Run

Floats = NDArray[np.float32]
NEAR = 1e-3
"""How far pooled features through the head may be from the graph's logits, relative to the largest of these."""


def read_weights(run: Run) -> dict[str, Floats]:
    """All tensors of ``model.safetensors``. Raises RunError where it was changed or is no such file."""
    try:
        return load(run.read(WEIGHTS))
    except SafetensorError as error:
        raise RunError(f"{run.path / WEIGHTS} is damaged: {error}", hint="restore it from a copy") from error


def read_head(run: Run) -> Head:
    """The last linear layer of a Run. Raises RunError where its weights have none that fits its classes."""
    classes = len(run.classes)
    found = Head.of(read_weights(run), classes)
    if found is None:
        raise RunError(
            f"{run.path / WEIGHTS} has no linear layer '{HEAD}', '{BIAS}' of {classes} classes at its end",
            hint="class activation maps are for networks that end in average pooling and one linear layer",
        )
    return found


def head_of(predictor: Predictor) -> Head:
    """What makes the logits of the features that ``predictor`` gives: the Run's last layer; of an adaptive artefact,
    whose features are maps of the classes, nothing more. Raises RunError where there is none.
    """
    return Head.nothing(len(predictor.run.classes)) if predictor.routes else read_head(predictor.run)


def check_head(features: Floats, logits: Floats, head: Head) -> None:
    """Raises RunError unless ``logits`` (N, K) are what ``head`` makes of the mean of ``features`` (N, D, h, w).

    Only then is a class activation map what the answer is the sum of.
    """
    hint = "the network does not end in average pooling and one linear layer: take another --method"
    if features.ndim != 4 or features.shape[1] != head.weights.shape[1]:
        raise RunError(
            f"the features have the shape {features.shape}, the head takes {head.weights.shape[1]}", hint=hint
        )
    expected = features.mean(axis=(2, 3)) @ head.weights.T + head.bias
    apart = float(np.abs(expected - logits).max())
    if apart > NEAR * max(1.0, float(np.abs(logits).max())):
        raise RunError(f"the mean of the features gives other logits than the graph: by {apart:.2g}", hint=hint)


def class_activation(features: Floats, weights: Floats) -> Floats:
    """For N pictures the sum of their feature maps, each times its weight: (N, D, h, w), (N, D) → (N, h, w).

    Where it is positive, the place speaks for the class; the mean over all places, plus the bias, is the logit.
    """
    heat: Floats = np.matmul(weights[:, None, :], features.reshape(*features.shape[:2], -1)).reshape(
        len(features), *features.shape[2:]
    )
    return heat
