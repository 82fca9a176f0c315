"""Which parts of a network learn: freezing, the statistics of norms, and how deep a parameter lies."""

from __future__ import annotations

from torch import nn

from resight.errors import UsageError
from resight.models import ResNet
from resight.recipes.sections import ModelConfig


def depth(net: ResNet, name: str) -> int:
    """Of a parameter or module, by its name: 0 for the stem, 1 … n for the n stages, n + 1 for the last layer and the
    attention over tiles.

    The norm after the stages of a pre-activation network belongs to the last stage.
    """
    part, stages = name.partition(".")[0], len(net.spec.depths)
    if part.startswith("layer"):
        return int(part.removeprefix("layer"))
    return {"norm": stages, "avgpool": stages, "fc": stages + 1, "attention": stages + 1}.get(part, 0)


def frozen_depth(net: ResNet, freeze: str) -> int:
    """The depth up to which ``model.freeze`` keeps the weights; −1 for none.

    Raises UsageError for a stage that the network does not have.
    """
    stages = len(net.spec.depths)
    known = {"none": -1, "stem": 0, **{f"stage{n}": n for n in range(1, stages + 1)}, "backbone": stages}
    if freeze not in known:
        raise UsageError(f"this network has no {freeze}", hint=f"--freeze {' or '.join(known)}")
    return known[freeze]


def freeze(net: ResNet, upto: str) -> None:
    """Parameters up to ``upto`` (``model.freeze``) get no gradient: no step, and no backward pass through them.

    Raises UsageError for a stage that the network does not have.
    """
    last = frozen_depth(net, upto)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(depth(net, name) > last)


def last_norm(net: ResNet) -> nn.Module:
    """The norm before pooling: after the stages of a pre-activation network, else the last one of the last branch."""
    if net.spec.preactivation:
        return net.norm[0]  # type: ignore[index]
    block = net.blocks[-1]
    return block.bn3 if net.spec.block == "bottleneck" else block.bn2  # type: ignore[return-value]


def fix(net: ResNet, config: ModelConfig) -> None:
    """Lets only the last layer and the norm before it learn, as far as ``config`` does not freeze them: training mode
    for that norm, evaluation mode for all else (FixRes, Touvron et al. 2019, §4).
    """
    learns = {id(p) for p in (*net.fc.parameters(), *last_norm(net).parameters())}
    last = frozen_depth(net, config.freeze)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(id(parameter) in learns and depth(net, name) > last)
    net.eval()
    if config.norms == "train" and last < len(net.spec.depths):
        last_norm(net).train()


def set_training(net: ResNet, config: ModelConfig) -> None:
    """Training mode, but evaluation mode for what is frozen: then norms use and keep the statistics that they have."""
    net.train()
    last = frozen_depth(net, config.freeze)
    for name, module in net.named_children():
        if depth(net, name) <= last:
            module.eval()
    if config.norms == "frozen":
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
