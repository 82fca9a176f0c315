"""A method by its name."""

from __future__ import annotations

import torch

from resight.models import ResNet
from resight.pretraining.byol import BYOL
from resight.pretraining.dino import DINO
from resight.pretraining.fastsiam import FastSiam
from resight.pretraining.simclr import SimCLR
from resight.pretraining.views import Pretraining
from resight.recipes.config import TrainConfig

METHODS: dict[str, type[Pretraining]] = {"simclr": SimCLR, "byol": BYOL, "fastsiam": FastSiam, "dino": DINO}


def pretraining_for(net: ResNet, config: TrainConfig) -> Pretraining:
    """The objective of ``config.pretrain.method``, its layers initialised from the seed."""
    torch.manual_seed(config.seed + 1)  # not the numbers that the network has got
    return METHODS[config.pretrain.method](net, config)
