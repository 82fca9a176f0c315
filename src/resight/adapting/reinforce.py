"""REINFORCE for a policy over blocks, as an objective of the one training loop.

Wu, Nagarajan, Kumar, Rennie, Davis, Grauman, Feris: BlockDrop (2018). One decision a picture: a contextual bandit. The
gradient is that of log π(u) (R(u) − R(û)), where û is what the policy does greedily: the self-critical baseline (Rennie
et al. 2017; §3.2). Three parts, each a function of the step:

1. the curriculum (§3.3): first only the last block is decided and the others are kept, then one more, from the end on;
2. the policy decides all blocks, the network is frozen;
3. both learn together: the cross-entropy of what was sampled is added, and what the whole network answered before, the
   aim of every sub-network, teaches beside the labels (Hinton et al. 2015; within one network Yu and Huang 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resight.adapting.gated import Gated
from resight.adapting.rewards import PENALTY, Costs, rewards
from resight.errors import UsageError
from resight.models import ResNet
from resight.recipes import TrainConfig
from resight.training.distill import Distilled, Teacher
from resight.training.loader import Batch
from resight.training.objective import Logs, Objective, Supervised


@dataclass(frozen=True)
class PolicySettings:
    """penalty: γ, what a wrong answer costs. bound: α; a block is kept with probability α s + (1 − α)(1 − s), where s
    is the policy's, so that everything is tried now and then, beside nearly what will be run: the paper's 0.8 drops a
    fifth of what is kept, and where so much is missing no other block can be missed. entropy: weight of the entropy of
    a picture's decisions, summed as their log-probabilities are. curriculum, joint: the share of the updates after
    which all blocks are decided, and after which the network learns, too; 1: never.
    """

    penalty: float = PENALTY
    bound: float = 0.95
    entropy: float = 0.01
    curriculum: float = 0.2
    joint: float = 0.5

    def check(self) -> None:
        """Raises UsageError."""
        if not 0.5 < self.bound <= 1:
            raise UsageError(f"the bound α is {self.bound:g}; expected above 0.5, at most 1")
        if self.penalty < 0 or self.entropy < 0:
            raise UsageError("the penalty and the weight of the entropy cannot be below 0")
        if not 0 <= self.curriculum <= self.joint <= 1:
            raise UsageError("the curriculum ends, within the training, before the network learns, too")


def decided(settings: PolicySettings, blocks: int, step: int, total: int) -> int:
    """How many of the last blocks are decided in update ``step``, from 0: 1 at first, all after the curriculum."""
    if step >= settings.curriculum * total:
        return blocks
    return min(blocks, 1 + int(blocks * step / (settings.curriculum * total)))


def bounded(logits: Tensor, bound: float) -> Tensor:
    """Probabilities to keep each block, in 1 − α … α (§3.2)."""
    keep = torch.sigmoid(logits)
    return bound * keep + (1 - bound) * (1 - keep)


class Reinforced(Objective):
    """The three parts. Its network is a `Gated`; ``costs``: of its blocks; ``teacher``: the network as it was before,
    None: labels alone teach.
    """

    def __init__(
        self,
        gated: Gated,
        config: TrainConfig,
        settings: PolicySettings,
        costs: Costs,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        settings.check()
        self.net = cast("ResNet", gated)
        self.gated, self.config, self.settings, self.costs = gated, config, settings, costs
        self.labels = Supervised(self.net, config)
        self.learned = self.labels if teacher is None else Distilled(self.labels, teacher, config)
        self.normalize = self.labels.normalize

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        settings, gated = self.settings, self.gated
        inputs = self.labels.inputs(batch)
        joint = batch.step >= settings.joint * self.config.total_steps
        with torch.set_grad_enabled(joint):
            stem = gated.stem(inputs.images)
        logits = gated.policy(stem if joint else stem.detach()).float()
        free = decided(settings, len(gated.names), batch.step, self.config.total_steps)
        keep = bounded(logits, settings.bound)
        with torch.no_grad():
            sampled, greedy = torch.bernoulli(keep) > 0.5, logits >= 0
            sampled[:, : len(gated.names) - free] = greedy[:, : len(gated.names) - free] = True
            baseline = gated.answered(stem, greedy).argmax(1) == batch.labels
        with torch.set_grad_enabled(joint):
            answers = gated.answered(stem, sampled)
        right = answers.detach().argmax(1) == batch.labels
        advantage = self._reward(right, sampled) - self._reward(baseline, greedy)
        taken, mine = sampled[:, -free:], keep[:, -free:]
        chance = torch.where(taken, mine, 1 - mine).log().sum(1)
        entropy = F.binary_cross_entropy(mine, mine.clone(), reduction="sum") / len(mine)
        loss = -(advantage * chance).mean() - settings.entropy * entropy
        if joint:
            loss = loss + self.learned.outcome(answers.float(), inputs, batch)[0]
        seen = torch.full((), float(len(logits)), device=logits.device)
        return loss, {"loss": loss.detach() * seen, "correct": baseline.sum().float(), "seen": seen}

    def _reward(self, right: Tensor, kept: Tensor) -> Tensor:
        found = rewards(right.cpu().numpy(), self.costs.shares(kept.cpu().numpy()), self.settings.penalty)
        return torch.from_numpy(found.astype(np.float32)).to(right.device)
