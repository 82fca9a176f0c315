"""Maps that need gradients or many passes. Each is deterministic: what is drawn is drawn from ``seed``.

A map is float32 (h, w) of the network's square; larger values: more important for the class. What each means:

    gradcam               evidence for and against, on the last feature map; equal to ``cam`` up to a factor
    gradcam++             the same with weights from higher derivatives; nothing against
    integrated-gradients  by how much each pixel changes the logit, against a picture of the mean colour
    smoothgrad            how strongly each pixel could change the logit, in whichever direction
    occlusion             by how much the logit falls when a patch has the mean colour
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Occlusion, Saliency
from numpy.typing import NDArray
from torch import Tensor

from resight.attribution.network import Explained, to_tensor

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def grad_cam(network: Explained, square: Pixels, target: int) -> Floats:
    """Grad-CAM (Selvaraju et al. 2017, equation 1, before its ReLU) at the map that is pooled: (h, w), signed."""
    pixels = to_tensor(square).requires_grad_()  # without it a frozen network would have nothing to differentiate
    found = LayerGradCam(network, network.last_map).attribute(pixels, target=target)
    return _plain(found[0, 0])


def grad_cam_plus_plus(network: Explained, square: Pixels, target: int) -> Floats:
    """Grad-CAM++ (Chattopadhay et al. 2018, equations 10 to 19): (h, w), never negative.

    With the score exp(logit), as there, the higher derivatives are powers of the first; the factor exp(logit) itself
    is the same everywhere and is left out.
    """
    pixels = to_tensor(square).requires_grad_()
    out = network.net.features(network.normalize(pixels))
    maps = out["features"]
    (slope,) = torch.autograd.grad(out["logits"][0, target], maps)
    total = maps.sum(dim=(2, 3), keepdim=True)
    below = 2 * slope**2 + total * slope**3
    alpha = torch.where(below != 0, slope**2 / torch.where(below != 0, below, 1.0), 0.0)
    weights = (alpha * slope.relu()).sum(dim=(2, 3), keepdim=True)
    return _plain((weights * maps).sum(dim=1).relu()[0])


def integrated_gradients(network: Explained, square: Pixels, target: int, *, steps: int = 50) -> Floats:
    """Integrated gradients (Sundararajan et al. 2017) from the mean colour, by Gauss–Legendre: (S, S), signed.

    Complete: the map's sum is the logit minus the logit of the mean colour, up to the error of ``steps`` points.
    """
    pixels = to_tensor(square)
    found = IntegratedGradients(network).attribute(
        pixels, baselines=_mean(network, pixels), target=target, n_steps=steps, internal_batch_size=10
    )
    return _plain(found[0].sum(dim=0))


def smooth_grad(
    network: Explained, square: Pixels, target: int, *, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Floats:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient of ``samples`` noisy copies, its absolute values summed over
    the channels: (S, S). noise: its deviation, as a share of the picture's range of values (there: 0.1 to 0.2).
    """
    pixels = to_tensor(square)
    deviation = noise * max(float(pixels.max() - pixels.min()), 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = NoiseTunnel(Saliency(network)).attribute(
            pixels,
            nt_type="smoothgrad",
            nt_samples=samples,
            nt_samples_batch_size=5,
            stdevs=deviation,
            target=target,
            abs=False,
        )
    return _plain(found[0].abs().sum(dim=0))


def occlusion(network: Explained, square: Pixels, target: int, *, patches: int = 12) -> Floats:
    """Occlusion (Zeiler and Fergus 2014, section 4.2): how much the logit falls behind a patch of the mean colour, each
    pixel the mean over the patches that cover it: (S, S), signed. patches: how many positions in each direction; a
    patch is two of their distances wide.
    """
    pixels = to_tensor(square)
    side = pixels.shape[2]
    stride = max(1, side // patches)
    channels = pixels.shape[1]
    with torch.no_grad():
        found = Occlusion(network).attribute(
            pixels,
            sliding_window_shapes=(channels, min(side, 2 * stride), min(side, 2 * stride)),
            strides=(channels, stride, stride),
            baselines=_mean(network, pixels),
            target=target,
            perturbations_per_eval=8,
        )
    return _plain(found[0].sum(dim=0))


Method = Callable[[Explained, Pixels, int], Floats]
METHODS: dict[str, Method] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "integrated-gradients": integrated_gradients,
    "smoothgrad": smooth_grad,
    "occlusion": occlusion,
}


def _mean(network: Explained, pixels: Tensor) -> Tensor:
    """A picture of the training data's mean colour: zero after the normalisation."""
    return network.normalize.mean.expand_as(pixels).clone()


def _plain(values: Tensor) -> Floats:
    array: Floats = values.detach().numpy().astype(np.float32)
    return array
