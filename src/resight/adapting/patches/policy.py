"""A policy over tiles, and REINFORCE for it as an objective of the one training loop.

Uzkent and Ermon: Learning When and Where to Zoom with Deep Reinforcement Learning (PatchDrop, 2020). One decision a
picture, of T tiles at once: a contextual bandit. The gradient is that of log π(u) (R(u) − R(û)), where û is what the
policy does greedily (their eq. 8). The network is fixed, so what it says of each tile is known and an answer from any
choice is a weighted sum: many choices are tried for each picture in every update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from resight.adapting.patches.facts import Facts
from resight.adapting.reinforce import bounded
from resight.adapting.rewards import rewards
from resight.errors import UsageError
from resight.inference.backend import Floats
from resight.models import ResNet
from resight.recipes import TrainConfig
from resight.training.loader import Batch, Pictures
from resight.training.objective import Logs, Normalize, Objective

OUTPUTS = ("probabilities", "logits", "embedding", "features")
_AT_ONCE = 4096
PENALTY = 0.5
"""A tenth of what blocks have. Where one tile of hundreds decides, a choice at random loses it, and a large penalty
teaches to keep all before anything else: there the probabilities are at their bound, and little more is learned.
"""


@dataclass(frozen=True)
class LookSettings:
    """penalty: γ, what a wrong answer costs. bound: α, see `reinforce.bounded`. entropy: weight of the mean entropy of
    a tile's decision. samples: choices that are tried for each picture in an update. tile, side: of what is seen, see
    ``Looking``.
    """

    penalty: float = PENALTY
    bound: float = 0.9
    entropy: float = 0.01
    samples: int = 32
    tile: int = 8
    side: int = 16

    def check(self) -> None:
        """Raises UsageError."""
        if not 0.5 < self.bound <= 1 or self.penalty < 0 or self.entropy < 0 or self.samples < 1:
            raise UsageError("expected a bound above 0.5 and at most 1, no penalty or entropy below 0, and a sample")


@dataclass(frozen=True)
class TileCosts:
    """Seconds on this machine, for a picture like those that were measured: look, of the coarse picture and the policy,
    for each tile that there is; tile, of looking at one in full.
    """

    look: float
    tile: float

    def shares(self, looked: Any, tiles: Any) -> NDArray[np.float64]:
        """Of looking at some of a picture's tiles, as a part of looking at all without a policy."""
        found: NDArray[np.float64] = self.look / self.tile + np.asarray(looked, np.float64) / np.asarray(tiles)
        return found


class TilePolicy(nn.Module):
    """Windows (N, C, side, side), normalised → how much each tile is wanted, (N, 1): two convolutions, two linear
    layers. At first each tile is looked at with probability 0.5.
    """

    def __init__(self, channels: int, side: int, like: Any) -> None:
        super().__init__()
        cells = (side + 3) // 4  # after two strides of 2
        self.spec, self.in_channels = like, channels
        self.conv1 = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.hidden = nn.Linear(16 * cells * cells, 32)
        self.linear = nn.Linear(32, 1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def features(self, windows: Tensor) -> Tensor:
        """(N, 16, h, w)."""
        found: Tensor = F.relu(self.conv2(F.relu(self.conv1(windows))))
        return found

    def embedding(self, features: Tensor) -> Tensor:
        """(N, 32)."""
        found: Tensor = F.relu(self.hidden(features.flatten(1)))
        return found

    def forward(self, windows: Tensor) -> Tensor:
        found: Tensor = self.linear(self.embedding(self.features(windows)))
        return found


class Scoring(nn.Module):
    """The policy as it is exported, with the outputs of every graph: uint8 (N, side, side, C) → the probability to
    look, its logit, and what that is made of.
    """

    outputs = OUTPUTS

    def __init__(self, policy: TilePolicy, normalize: Normalize) -> None:
        super().__init__()
        self.net, self.normalize = policy, normalize
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.net.features(self.normalize(pixels.permute(0, 3, 1, 2)))
        embedding = self.net.embedding(features)
        logits = self.net.linear(embedding)
        return torch.sigmoid(logits), logits, embedding, features


def at_least_one(kept: Tensor, logits: Tensor) -> Tensor:
    """bool (…, T) with the tile of the largest logit where there is none."""
    first = F.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
    return kept | (first & ~kept.any(-1, keepdim=True))


def pooled(kept: Tensor, attention: Tensor, logits: Tensor) -> Tensor:
    """Answers (…, B, K) from the tiles of ``kept``, bool (…, B, T), at least one each: the softmax is over these. The
    others are not in it; attention (B, T), logits (B, T, K).
    """
    weights = attention.expand(kept.shape).masked_fill(~kept, -torch.inf).softmax(-1)
    return torch.einsum("...bt,btk->...bk", weights, logits)


class Looked(Objective):
    """A batch holds what ``LookPictures`` give. Its network is a `TilePolicy`."""

    def __init__(self, policy: TilePolicy, config: TrainConfig, settings: LookSettings, costs: TileCosts) -> None:
        super().__init__()
        settings.check()
        self.net = cast("ResNet", policy)
        self.config, self.settings, self.costs = config, settings, costs
        self.normalize = Normalize(config.data.mean, config.data.std)

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        assert batch.tiles is not None
        settings, (count, width) = self.settings, batch.pixels.shape[1:]
        there = torch.arange(count, device=batch.pixels.device) < batch.tiles.to(batch.pixels.device)[:, None]
        side, channels = settings.side, self.config.data.channels
        classes = width - 1 - channels * side * side
        attention, logits, seen = torch.split(batch.pixels, [1, classes, channels * side * side], -1)
        wanted = there.new_full(there.shape, -torch.inf, dtype=torch.float32)
        scores = self.net(self.normalize(seen[there].view(-1, channels, side, side)))[:, 0]
        wanted = wanted.masked_scatter(there, scores)
        keep = bounded(wanted, settings.bound)
        with torch.no_grad():
            chance = torch.rand(settings.samples, *there.shape, device=there.device)
            drawn = at_least_one((chance < keep) & there, wanted)
            greedy = at_least_one((wanted >= 0) & there, wanted)
            given = attention[..., 0], logits
            right = pooled(drawn, *given).argmax(-1) == batch.labels
            baseline = pooled(greedy, *given).argmax(-1) == batch.labels
            advantage = self._reward(right, drawn, there) - self._reward(baseline, greedy, there)
        log_chance = (torch.where(drawn, keep, 1 - keep).log() * there).sum(-1)
        sure = keep[there]
        entropy = F.binary_cross_entropy(sure, sure.clone())
        loss = -(advantage * log_chance).mean() - settings.entropy * entropy
        size = torch.full((), float(len(there)), device=loss.device)
        return loss, {"loss": loss.detach() * size, "correct": baseline.sum().float(), "seen": size}

    def _reward(self, right: Tensor, kept: Tensor, there: Tensor) -> Tensor:
        shares = self.costs.shares(kept.sum(-1).cpu().numpy(), there.sum(-1).cpu().numpy())
        found = rewards(right.cpu().numpy(), shares, self.settings.penalty)
        return torch.from_numpy(found.astype(np.float32)).to(right.device)


class LookPictures(Pictures):
    """``pictures[i]`` is float32 (T, 1 + K + C · side²): of each tile its attention, its logits, and the window about
    it, channels first.
    """

    def __init__(self, samples: Sequence[Any], facts: Facts) -> None:
        super().__init__(samples, _unread, 0, targets=facts.labels)
        self.facts = facts

    def __getitem__(self, index: int) -> NDArray[np.float32]:  # type: ignore[override]
        facts = self.facts
        seen = np.moveaxis(facts.windows[index], -1, 1).reshape(len(facts.attention[index]), -1)
        return np.concatenate([facts.attention[index][:, None], facts.logits[index], seen.astype(np.float32)], axis=1)


def _unread(*_: object) -> NDArray[np.uint8]:
    raise AssertionError("what the network says of tiles is not read")


@torch.inference_mode()
def scores_of(policy: TilePolicy, normalize: Normalize, facts: Facts) -> list[Floats]:
    """How much each tile of each picture is wanted, (T,) each, in PyTorch."""
    policy.eval()
    found = []
    for windows in facts.windows:
        parts = [
            policy(normalize(torch.from_numpy(windows[k : k + _AT_ONCE]).permute(0, 3, 1, 2))).numpy()[:, 0]
            for k in range(0, len(windows), _AT_ONCE)
        ]
        found.append(np.concatenate(parts))
    return found


@dataclass(frozen=True)
class Glance:
    """What the greedy policy does on validation: mean reward, share of the tiles, accuracy."""

    reward: float
    looked: float
    accuracy: float

    @property
    def loss(self) -> float:
        return -self.reward

    def entry(self, config: TrainConfig) -> dict[str, float]:
        return {"val_loss": self.loss, "val_accuracy": self.accuracy, "val_looked": self.looked}


def glance(
    objective: Objective,
    pictures: Pictures,
    config: TrainConfig,
    accelerator: Accelerator,
    micro_batch: int,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Glance:
    """A judge of the one training loop: see `resight.training.fit.Judge`."""
    assert isinstance(objective, Looked)
    assert isinstance(pictures, LookPictures)
    facts, right, shares, looked = pictures.facts, [], [], []
    for k, scores in enumerate(scores_of(cast("TilePolicy", objective.net), objective.normalize, facts)):
        chosen = np.flatnonzero(scores >= 0) if (scores >= 0).any() else np.array([scores.argmax()])
        right.append(facts.answer(k, chosen).argmax() == facts.labels[k])
        looked.append(len(chosen) / len(scores))
        shares.append(float(objective.costs.shares(len(chosen), len(scores))))
    found = rewards(np.array(right), np.array(shares), objective.settings.penalty)
    return Glance(float(found.mean()), float(np.mean(looked)), float(np.mean(right)))
