"""The parameter-randomisation sanity check (Adebayo et al. 2018, section 3): a map that stays the same when the network
has learned nothing shows the picture, not reasons.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from resight.attribution.gradients import Method
from resight.attribution.network import Explained, to_tensor
from resight.models import ResNet

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
LIMIT = 0.5
"""A mean rank correlation from here on, of either sign, says that the map hardly depends on what was learned."""
GOOD = "the map changes when the network's weights are random: it shows what was learned"
UNTESTED = "not tested against random weights: the map has one value everywhere"
BAD = "the map hardly changes when the network's weights are random: it shows edges of the picture, not reasons"


def randomised(network: Explained, square: Pixels, seed: int) -> Explained:
    """The same architecture with fresh weights, all of them. Norms take their statistics from the picture and its
    mirrored copies, as they would in training: else activations of deep networks would grow beyond all bounds.
    """
    net = network.net
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = ResNet(net.spec, num_classes=net.num_classes, in_channels=net.in_channels)
    pixels = to_tensor(square)
    copies = torch.cat([pixels, pixels.flip(3), pixels.flip(2), pixels.flip(2, 3)])
    norms = [module for module in fresh.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    fresh.train()
    with torch.no_grad():
        fresh(network.normalize(copies))
    mean, std = (tuple((values.flatten() / 255).tolist()) for values in (network.normalize.mean, network.normalize.std))
    return Explained(fresh, mean, std)


def sanity(
    method: Method, network: Explained, square: Pixels, target: int, *, heat: Floats, count: int = 3
) -> float | None:
    """The mean of Spearman's correlation of ``heat`` with the maps of ``count`` networks with random weights.

    −1 … 1; near 0 is as it should be, see ``LIMIT``. None where nothing can be compared: ``heat``, or each of the other
    maps, has one value everywhere.
    """
    found = [spearman(heat, method(randomised(network, square, seed), square, target)) for seed in range(1, count + 1)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def passed(correlation: float | None) -> bool:
    """A map that is the other way round depends on what was learned as little as one that is the same."""
    return correlation is not None and abs(correlation) < LIMIT


def verdict(correlation: float | None) -> str:
    if correlation is None:
        return UNTESTED
    return GOOD if passed(correlation) else BAD


def spearman(first: Floats, second: Floats) -> float | None:
    """Rank correlation of two maps; None where one of them is constant. Equal values have their mean rank."""
    a, b = _ranks(first.ravel()), _ranks(second.ravel())
    a, b = a - a.mean(), b - b.mean()
    lengths = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / lengths if lengths > 0 else None


def _ranks(values: Floats) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
