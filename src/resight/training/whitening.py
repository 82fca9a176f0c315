"""A first convolution that whitens patches, computed from the training pictures (Jordan 2024, §3.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.augment import draw, shrink
from resight.training.loader import Pictures, cut_pictures, size_at
from resight.training.objective import Normalize

_PICTURES = 1000
_PATCHES = 200_000
_EPSILON = 5e-4  # added to the variances, as in the paper: the weakest directions are not blown up


@torch.no_grad()
def whiten(net: ResNet, pictures: Pictures, config: TrainConfig) -> None:
    """Sets the first convolution's filters to the strongest eigenvectors of patches and their negatives.

    Each is divided by the root of its variance, so that all answer with about unit variance. Patches come from up to
    1,000 training pictures, normalised and of the size of the first update. A function of the seed and the pictures.
    Filters beyond twice the number of eigenvectors keep their random start.
    """
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    chosen = np.random.default_rng(config.seed).permutation(len(pictures))[:_PICTURES]
    cut = cut_pictures(pictures, chosen, draw(config.augment, config.seed, 0, chosen), config, size_at(config, 0))
    images = Normalize(config.data.mean, config.data.std)(shrink(cut, size_at(config, 0)))
    size = conv.kernel_size[0]
    patches = F.unfold(images, size, stride=max(1, size // 2)).transpose(1, 2).flatten(0, 1)
    patches = patches[:: max(1, len(patches) // _PATCHES)].double()
    variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    count = min(len(variances), conv.out_channels // 2)
    strongest = (vectors / (variances + _EPSILON).sqrt()).T.flip(0)[:count].float()
    filters = strongest.view(count, conv.in_channels, size, size)
    conv.weight[: 2 * count] = torch.cat([filters, -filters])
