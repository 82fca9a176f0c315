"""Embeddings of all processes, with their gradients: a batch that is shared out has the negatives of the whole one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def joint(rows: Tensor) -> tuple[Tensor, int]:
    """(B, D) of each process → (W · B, D) of all, in the order of their ranks, and where the own rows begin.

    Gradients flow back to the process that a row came from, summed over all that used it: so the mean of the
    processes' losses has the gradient of the joint batch's loss.
    """
    if processes() == 1:
        return rows, 0
    gathered: Tensor = _Gather.apply(rows)
    return gathered, dist.get_rank() * len(rows)


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over the processes, without a gradient."""
    if processes() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values / processes()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].contiguous().clone()
        dist.all_reduce(summed)
        start = dist.get_rank() * ctx.count
        return summed[start : start + ctx.count]
