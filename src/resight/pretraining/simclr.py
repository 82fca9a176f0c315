"""SimCLR: views of one picture are near, all others far (Chen et al. 2020, "A simple framework for contrastive learning
of visual representations")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from resight.models import ResNet
from resight.pretraining.joint import joint
from resight.pretraining.views import Pretraining, perceptron
from resight.recipes.config import TrainConfig


def nt_xent(views: Sequence[Tensor], temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy (eq. 1) of V views, each (B, D), of the same B pictures; ().

    For each view: −ln of the share that a view of the same picture has of exp(cosine / temperature) over all V · n − 1
    other views, where n pictures are in all processes together; the mean over views and over the views of the same
    picture. Equal similarities give ln(V · n − 1).
    """
    count = len(views[0])
    own = [F.normalize(rows.float(), dim=1) for rows in views]
    everything, start = zip(*(joint(rows) for rows in own), strict=True)
    total = len(everything[0])
    anchors, others = torch.cat(own), torch.cat(everything)
    with torch.autocast(anchors.device.type, enabled=False):  # divided by a temperature, bf16 would be far off
        scores = anchors @ others.T / temperature  # (V · B, V · n)
    picture = torch.arange(count, device=scores.device).repeat(len(views)) + start[0]
    view = torch.arange(len(views), device=scores.device).repeat_interleave(count)
    same = picture[:, None] == torch.arange(total, device=scores.device).repeat(len(views))[None]
    itself = same & (view[:, None] == torch.arange(len(views), device=scores.device).repeat_interleave(total)[None])
    scores = scores.masked_fill(itself, float("-inf"))
    logs = scores.log_softmax(dim=1)
    return -logs[same & ~itself].mean()


class SimCLR(Pretraining):
    """``nt_xent`` of a projection of the embedding: two layers, whose last has no norm."""

    remedy = "Train with a lower --lr, or raise --set pretrain.temperature."

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__(net, config)
        self.projector = perceptron(net.width, config.pretrain.hidden, config.pretrain.width)

    def compared(self, images: Sequence[Tensor], step: int) -> tuple[Tensor, Sequence[Tensor]]:
        # All views in one batch, so that no norm's statistics could tell them apart.
        projections = self.projector(self.net(torch.cat(list(images)))).float().chunk(len(images))
        return nt_xent(projections, self.config.pretrain.temperature), projections
