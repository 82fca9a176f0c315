"""What each stage knows of the classes: a linear probe on the pooled maps of a network that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resight.models import ResNet
from resight.transfer.probe import fit

Floats = NDArray[np.float32]


@torch.no_grad()
def pooled(net: ResNet, batches: Sequence[Tensor]) -> dict[str, Floats]:
    """``stem``, ``stage1`` … and ``features``: each map's mean over its places, float32 (N, D)."""
    found: dict[str, list[Tensor]] = {}
    for images in batches:
        for name, out in net.features(images).items():
            if out.ndim == 4:
                found.setdefault(name, []).append(out.mean((2, 3)))
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def probe_accuracy(
    train: Floats, train_labels: NDArray[np.int64], held: Floats, labels: NDArray[np.int64], classes: int
) -> float:
    """Accuracy in [0, 1] on ``held`` of a logistic regression over ``train``, float32 (N, D) both (Alain and Bengio
    2016). The penalty is chosen by cross-validation of the training pictures: the others stay unseen.
    """
    nobody = np.empty((0, 1, train.shape[1]), np.float32), np.empty(0, np.int64)
    groups: list[str | None] = [None] * len(train)
    head, _ = fit((train[:, None], train_labels, groups), nobody, classes, seed=0)
    return float((head.logits(held).argmax(1) == labels).mean())
