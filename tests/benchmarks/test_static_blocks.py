"""Blocks that are cut for every picture, in ``benchmarks/static_blocks.py``."""

from __future__ import annotations

import numpy as np
import torch

from resight.adapting.gated import Gated
from resight.models import create
from static_blocks import fewest_missed


def test_blocks_that_add_nothing_are_cut_first() -> None:
    torch.manual_seed(0)
    net = create("resnet20", num_classes=3, in_channels=3, stem="tiny").eval()
    for name in ("layer2.2", "layer3.1"):
        torch.nn.init.zeros_(net.get_submodule(name).last)  # type: ignore[arg-type]
    gated = Gated(net).eval()
    with torch.no_grad():
        stem = gated.stem(torch.randn(200, 3, 16, 16))
        logits = gated.answered(stem, torch.ones(200, 7, dtype=torch.bool))
        net.fc.bias -= logits.mean(0)  # otherwise all pictures get one class, and no block is missed
    labels = gated.answered(stem, torch.ones(200, 7, dtype=torch.bool)).argmax(1).numpy()
    assert len(np.unique(labels)) == 3
    kept = fewest_missed(gated, stem, labels, 5)
    assert [name for name, one in zip(gated.names, kept, strict=True) if not one] == ["layer2.2", "layer3.1"]
    assert fewest_missed(gated, stem, labels, 3).sum() == 3
