"""What all methods share: the views of a batch, the layers behind the embedding, and the objective's frame."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.pretraining.watch import Watch, look
from resight.recipes.config import TrainConfig
from resight.training.augment import apply
from resight.training.loader import Batch, views_of
from resight.training.objective import Logs, Normalize, Objective


def perceptron(width: int, hidden: int, out: int, *, last_norm: bool = False) -> nn.Sequential:
    """Linear, norm, ReLU, linear (Chen et al. 2020, §4.2); ``last_norm``: a norm without weights at the end."""
    last: list[nn.Module] = [nn.BatchNorm1d(out, affine=False)] if last_norm else []
    return nn.Sequential(
        *(nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)),
        *(nn.Linear(hidden, out), *last),
    )


class Pretraining(Objective):
    """A method that learns without labels: of each picture there are several views, and no label is looked at.

    ``net`` has no last layer: its answer is the embedding, float32 (N, D). The layers behind it, and networks that
    follow it, are part of the objective, and of checkpoints. Logs: ``correct`` counts the pictures whose second view
    is, of all second views of the batch, nearest to the first: the loss's own success, without any label.
    """

    whole = True  # negatives, and norms over the batch
    remedy = "Train with a lower --lr or a larger --batch, or by another --method."

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.normalize = Normalize(config.data.mean, config.data.std)
        self.watch = Watch(self.remedy)
        self._said: list[str] = []

    @property
    def body(self) -> nn.Module:
        return self

    def images(self, batch: Batch) -> list[Tensor]:
        """Each view, float32 (B, C, S, S), changed and normalised; small ones last."""
        views = [(batch.pixels, batch.parameters), *((view.pixels, view.parameters) for view in batch.others)]
        return [
            self.normalize(apply(augment, pixels, parameters)).contiguous(memory_format=torch.channels_last)
            for (augment, _), (pixels, parameters) in zip(views_of(self.config), views, strict=True)
        ]

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        loss, projections = self.compared(self.images(batch), batch.step)
        with torch.no_grad(), torch.autocast(loss.device.type, enabled=False):
            first, second = (F.normalize(rows.detach().float(), dim=1) for rows in projections[:2])
            nearest = (first @ second.T).argmax(1)
            correct = (nearest == torch.arange(len(first), device=first.device)).sum().float()
            if batch.step % self.config.pretrain.watch_steps == 0:
                self._said = self.watch.after(look(batch.step, first.cpu().numpy()))
        seen = torch.full((), float(len(batch.labels)), device=loss.device)
        return loss, {"loss": loss.detach() * seen, "correct": correct, "seen": seen}

    def compared(self, images: Sequence[Tensor], step: int) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss of the views, and the projections of each whole one, (B, width): at least two."""
        raise NotImplementedError

    def remarks(self) -> list[str]:
        said, self._said = self._said, []
        return said


def follower(module: nn.Module) -> nn.Module:
    """A copy that gets no gradient: ``follow`` moves it."""
    return copy.deepcopy(module).requires_grad_(False)


def momentum_at(base: float, step: int, total: int) -> float:
    """With which a target network follows after update ``step``, from 1: from ``base`` to 1 by a half cosine (Grill et
    al. 2020, §3.2).
    """
    return 1 - (1 - base) * (math.cos(math.pi * min(1.0, step / max(1, total))) + 1) / 2


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Each parameter becomes momentum · own + (1 − momentum) · the source's. Norms' statistics are the target's own: it
    has seen the same batches.
    """
    for own, given in zip(target.parameters(), source.parameters(), strict=True):
        own.mul_(momentum).add_(given, alpha=1 - momentum)
