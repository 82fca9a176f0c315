"""torch.compile for training."""

from __future__ import annotations

import torch

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.phases import sizes_of


def compile_net(net: ResNet, config: TrainConfig, share: int, micro_batch: int) -> None:
    """Compiles ``net`` in place, so that names of weights stay; ``net.forward`` stays eager, for validation.

    share, micro_batch: pictures of this process in one update, and at a time. Each shape of batch, at most two dozen,
    is compiled when it first comes. One more than expected would be an error, and no silent return to eager code,
    which a resumed training would not repeat.
    """
    batches = {min(micro_batch, share - start) for start in range(0, share, micro_batch)}
    torch._dynamo.reset()  # earlier networks of this process do not count
    shapes = len(sizes_of(config)) + bool(config.data.fix_share)  # at the end other parts learn: compiled once more
    torch._dynamo.config.recompile_limit = shapes * len(batches)
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    net.compile(dynamic=False)
