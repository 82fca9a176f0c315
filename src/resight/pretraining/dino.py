"""DINO: a student gives a following teacher's answers, also for small parts of a picture (Caron et al. 2021, "Emerging
properties in self-supervised vision transformers"; multi-crop: Caron et al. 2020, §3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.models import ResNet
from resight.pretraining.joint import mean_of_all
from resight.pretraining.views import Pretraining, follow, follower, momentum_at
from resight.recipes.config import TrainConfig


class Prototypes(nn.Module):
    """Three layers to a bottleneck of length 1, then its cosines with ``width`` prototypes (§3.1, appendix C)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        bottleneck = max(2, hidden // 4)
        self.layers = nn.Sequential(
            *(nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()),
            nn.Linear(hidden, bottleneck),
        )
        self.prototypes = nn.Parameter(torch.randn(out, bottleneck))

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) → scores (B, out), −1 … 1, and the bottleneck (B, hidden / 4)."""
        narrow = F.normalize(self.layers(embeddings).float(), dim=1)
        with torch.autocast(narrow.device.type, enabled=False):  # divided by a temperature, bf16 would be far off
            return F.linear(narrow, F.normalize(self.prototypes.float(), dim=1)), narrow


def self_distillation(
    students: Sequence[Tensor], teachers: Sequence[Tensor], center: Tensor, student: float, teacher: float
) -> Tensor:
    """Cross-entropy of the students' softmax at the temperature ``student`` with the teachers', centred and sharpened
    by ``teacher`` (eq. 2 to 4): the mean over all pairs of different views, each (B, K), and over pictures; ().
    Teachers are of the first views. A student that says nothing costs ln K whatever the teacher says.
    """
    targets = [((rows.detach() - center) / teacher).softmax(1) for rows in teachers]
    logs = [(rows / student).log_softmax(1) for rows in students]
    pairs = [-(target * log).sum(1).mean() for i, target in enumerate(targets) for j, log in enumerate(logs) if i != j]
    return torch.stack(pairs).mean()


class DINO(Pretraining):
    """``self_distillation``; what is kept is the teacher, which is better than the student (§5.2)."""

    center: Tensor
    remedy = "Lower --set pretrain.teacher_temperature, or raise --set pretrain.momentum."

    def __init__(self, net: ResNet, config: TrainConfig) -> None:
        super().__init__(net, config)
        how = config.pretrain
        self.head = Prototypes(net.width, how.hidden, how.width)
        self.teacher, self.teacher_head = follower(net), follower(self.head)
        self.register_buffer("center", torch.zeros(how.width))

    @property
    def kept(self) -> ResNet:
        assert isinstance(self.teacher, ResNet)
        return self.teacher

    def compared(self, images: Sequence[Tensor], step: int) -> tuple[Tensor, Sequence[Tensor]]:
        how = self.config.pretrain
        answers = [self.head(self.net(view)) for view in images]
        with torch.no_grad():
            teachers = [self.teacher_head(self.teacher(view))[0] for view in images[: how.views]]
        scores = [score for score, _ in answers]
        loss = self_distillation(scores, teachers, self.center, how.temperature, how.teacher_temperature)
        with torch.no_grad():  # after use (eq. 4)
            mean = mean_of_all(torch.cat(teachers).mean(0))
            self.center.mul_(how.center).add_(mean, alpha=1 - how.center)
        return loss, [narrow for _, narrow in answers[: how.views]]

    def stepped(self, step: int) -> None:
        momentum = momentum_at(self.config.pretrain.momentum, step, self.config.total_steps)
        follow(self.teacher, self.net, momentum)
        follow(self.teacher_head, self.head, momentum)
