"""The few things that processes started by ``torchrun`` must agree on."""

from __future__ import annotations

import os
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object


def world_size() -> int:
    """Processes in this training, as torchrun says; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def _state() -> PartialState:
    import torch

    return PartialState(cpu=not torch.cuda.is_available())


def broadcast_path(path: Path | None) -> Path:
    """The first process's path, in every process."""
    if world_size() == 1:
        if path is None:
            raise ValueError("a single process is the first one and must know the path")
        return path
    _state()
    return Path(broadcast_object_list([str(path)])[0])


def smallest(value: int) -> int:
    """The smallest of all processes' values."""
    return value if world_size() == 1 else min(gather_object([value]))


def wait() -> None:
    """Until every process is here."""
    if world_size() > 1:
        _state().wait_for_everyone()
