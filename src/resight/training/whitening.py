"""A first convolution that whitens patches, computed from the training pictures (Jordan 2024, §3.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.augment import draw, shrink
from resight.training.loader import Pictures, cut_pictures
from resight.training.objective import Normalize
from resight.training.phases import size_at

_PICTURES, _AT_ONCE = 1000, 25
_EPSILON = 5e-4  # added to the variances, as in the paper: the weakest directions are not blown up


@torch.no_grad()
def whiten(net: ResNet, pictures: Pictures, config: TrainConfig) -> None:
    """Sets the first convolution's filters to the strongest eigenvectors of patches and their negatives.

    Each is divided by the root of its variance, so that all answer with about unit variance. Patches come from up to
    1,000 training pictures, normalised and of the size of the first update. A function of the seed and the pictures.
    Filters beyond twice the number of eigenvectors keep their random start.
    """
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    variances, vectors = torch.linalg.eigh(_moments(conv, pictures, config))
    count = min(len(variances), conv.out_channels // 2)
    strongest = (vectors / (variances + _EPSILON).sqrt()).T.flip(0)[:count].float()
    filters = strongest.view(count, conv.in_channels, *conv.kernel_size)
    conv.weight[: 2 * count] = torch.cat([filters, -filters])


def _moments(conv: nn.Conv2d, pictures: Pictures, config: TrainConfig) -> Tensor:
    """Mean products of the values in patches of the kernel's size, half of it apart: float64 (C·k·k, C·k·k)."""
    normalize, size, kernel = Normalize(config.data.mean, config.data.std), size_at(config, 0), conv.kernel_size[0]
    width = conv.in_channels * kernel**2
    total, count = torch.zeros(width, width, dtype=torch.float64), 0
    chosen = np.random.default_rng(config.seed).permutation(len(pictures))[:_PICTURES]
    for start in range(0, len(chosen), _AT_ONCE):
        some = chosen[start : start + _AT_ONCE]
        cut = cut_pictures(pictures, some, draw(config.augment, config.seed, 0, some), config, size)
        patches = F.unfold(normalize(shrink(cut, size)), kernel, stride=max(1, kernel // 2)).double()
        total += torch.einsum("npl,nql->pq", patches, patches)
        count += patches.shape[0] * patches.shape[2]
    return total / count
