"""The whitening start: answers to patches are uncorrelated and of unit variance."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resight.models import create
from resight.training.loader import eval_batches
from resight.training.objective import Normalize
from resight.training.whitening import whiten

from .tiny import start, tiny_config


@pytest.mark.parametrize("stem", ["cifar", "tiny", "imagenet", "deep"])
def test_filters_whiten_the_patches_of_the_training_pictures(stem: str, patterns: Path, tmp_path: Path) -> None:
    changes = {"augment.crop": "none", "augment.flip": "none", "model.options": {}}
    config = tiny_config(patterns, {**changes, "model.name": "resnet18"})
    training = start(tmp_path / "run", patterns, changes)
    net = create("resnet18", num_classes=3, stem=stem)
    before = copy.deepcopy(net.state_dict())
    pictures = training.loader.pictures
    whiten(net, pictures, config)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [next(name for name, value in net.named_parameters() if value is first.weight)]

    pixels = torch.cat(list(eval_batches(pictures, np.arange(len(pictures)), 100)))
    images = Normalize(config.data.mean, config.data.std)(pixels)
    size = first.kernel_size[0]
    patches = F.unfold(images, size, stride=max(1, size // 2)).transpose(1, 2).flatten(0, 1)
    count = min(first.out_channels // 2, patches.shape[1])
    answers = patches @ first.weight[:count].flatten(1).T
    moments = (answers.T @ answers / len(answers)).detach()
    assert (moments - torch.diag(moments.diagonal())).abs().max() < 0.02
    assert moments.diagonal().max() < 1.01
    assert moments[0, 0] > 0.98  # the strongest direction; weak ones stay below one by the epsilon
    assert torch.equal(first.weight[count : 2 * count], -first.weight[:count])


def test_it_is_a_function_of_the_seed(patterns: Path, tmp_path: Path) -> None:
    weights = [start(tmp_path / str(n), patterns, {"model.whitening": True}).net.conv1.weight for n in range(2)]
    assert torch.equal(*weights)
