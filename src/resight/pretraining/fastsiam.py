"""FastSiam: SimSiam (Chen and He 2021) with several views, whose mean is the target (Pototzky et al. 2022, "FastSiam:
resource-efficient self-supervised learning on a single GPU")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.pretraining.views import Pretraining, perceptron
from resight.recipes.config import TrainConfig


def multi_view(predictions: Sequence[Tensor], projections: Sequence[Tensor], stop_gradient: bool = True) -> Tensor:
    """−cosine of each view's prediction and the mean of the other views' projections, all (B, D); the mean over views
    and pictures, −1 … 1; (). No gradient flows into the targets (Chen and He 2021, eq. 3 and 4) unless it is let.
    """
    targets = torch.stack(list(projections))
    if stop_gradient:
        targets = targets.detach()
    count, whole = len(targets), targets.sum(0)
    losses = [
        -F.cosine_similarity(prediction.float(), ((whole - own) / (count - 1)).float(), dim=1).mean()
        for prediction, own in zip(predictions, targets, strict=True)
    ]
    return torch.stack(losses).mean()


class FastSiam(Pretraining):
    """``multi_view`` of a projection with a norm at its end and a narrow prediction of it (Chen and He 2021, §3)."""

    remedy = "Train with a lower --lr, or raise --batch or --set pretrain.views."

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__(net, config)
        how = config.pretrain
        self.projector = perceptron(net.width, how.hidden, how.width, last_norm=True)
        self.predictor: nn.Module = perceptron(how.width, max(1, how.width // 4), how.width)

    def compared(self, images: Sequence[Tensor], step: int) -> tuple[Tensor, Sequence[Tensor]]:
        projections = [self.projector(self.net(view)) for view in images]
        predictions = [self.predictor(rows) for rows in projections]
        return multi_view(predictions, projections, self.config.pretrain.stop_gradient), projections
