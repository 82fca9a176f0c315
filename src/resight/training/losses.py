"""Losses over soft targets: what each picture costs, or the mean over a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, targets: Tensor, kind: str, gamma: float, weights: Tensor | None = None) -> Tensor:
    """The mean over a batch, in nats, of what each picture costs, times its weight where there are ``weights`` (B,).

    logits, targets: float (B, K); targets sum to 1 in each row. kind: ``cross_entropy``, −Σ t ln p; ``focal``,
    −Σ t (1 − p)^γ ln p (Lin et al. 2017, eq. 4, over the softmax); ``bce``, the mean of the classes' binary
    cross-entropies.
    """
    reduction = "mean" if weights is None else "none"
    if kind == "cross_entropy":
        each = F.cross_entropy(logits, targets, reduction=reduction)
    elif kind == "bce":
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction=reduction)
        each = each if weights is None else each.mean(1)
    else:
        each = _focal(logits, targets, gamma)
    return each.mean() if weights is None else (weights * each).mean()


def _focal(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """(B,)."""
    log_p = logits.log_softmax(1)
    # 1 − p must not round to 0, where a power below 1 has no finite gradient.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(targets * rest.pow(gamma) * log_p).sum(1)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over a batch, in nats.

    student, teacher: logits, float (B, K). T² keeps the gradient's size as T grows (Hinton et al. 2015, §2.1).
    """
    ours, theirs = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
