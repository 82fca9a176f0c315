"""How large and how costly a network is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resight.models.resnet import ResNet


def parameter_count(net: nn.Module) -> int:
    """All trainable numbers."""
    return sum(p.numel() for p in net.parameters())


def count_macs(net: ResNet, image_size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one square picture.

    This is what papers print as "FLOPs"; norms, activations and pooling are not counted.
    """
    total = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            per_output = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * per_output
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = net.training
    try:
        with torch.no_grad():
            parameter = next(net.parameters())
            picture = torch.zeros(1, net.in_channels, image_size, image_size).to(parameter)
            net.eval()(picture)
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
