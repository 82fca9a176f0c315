"""The weighted layers of a network in the order that a picture passes them, and how strongly each answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resight.models import ResNet

_BESIDE = (".downsample.", ".se.")  # not on the way through the branches


def convolutions(net: ResNet) -> dict[str, nn.Conv2d]:
    """Name → convolution: those of the stem and of the branches, in order; none of shortcuts or channel gates."""
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and not any(part in name for part in _BESIDE)
    }


def responding(net: ResNet, name: str) -> nn.Module:
    """What gives the response of the convolution ``name``: the norm after it, or itself where none follows.

    He et al. 2015, figure 7: after BN, before ReLU and addition. With pre-activation no norm follows.
    """
    if not net.spec.preactivation and net.spec.norm == "batch":
        head, _, tail = name.rpartition("conv")
        if tail.isdigit():
            return net.get_submodule(f"{head}bn{tail}")
    return net.get_submodule(name)


@torch.no_grad()
def responses(net: ResNet, images: Tensor) -> dict[str, float]:
    """Standard deviation of each layer's response to normalised images float32 (N, C, H, W), over pictures, places and
    channels, in evaluation mode (He et al. 2015, figure 7). Leaves the network as it was.
    """
    found: dict[str, float] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, given: object, out: Tensor) -> None:
            found[name] = float(out.std())  # now: the ReLU that follows may write into it

        return responding(net, name).register_forward_hook(hook)

    was = net.training
    handles = [keep(name) for name in convolutions(net)]
    try:
        net.eval()(images)
    finally:
        net.train(was)
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    return found
