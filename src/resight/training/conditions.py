"""What a resumed training must find as it was."""

from __future__ import annotations

import torch

from resight.images import decoder_versions
from resight.recipes.config import TrainConfig


def conditions(config: TrainConfig, world: int) -> dict[str, str]:
    """What a bitwise equal result depends on besides the configuration."""
    return {
        "threads": str(torch.get_num_threads()),
        "processes": str(world),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **decoder_versions(),
        "device": config.device,
        "precision": config.precision,
        "compile": str(config.compile),
    }
