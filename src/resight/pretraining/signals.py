"""What is found after each epoch of a pretraining: signs that it learns, of which the loss knows nothing.

Labels, where there are some, are looked at here and nowhere else: the pictures that train and are validated have none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from resight.evaluation.representation import alignment, effective_rank, knn_vote, spread, uniformity
from resight.recipes.config import TrainConfig
from resight.training.augment import apply
from resight.training.loader import Pictures, eval_batches, view_of
from resight.training.objective import Objective

BANK, QUERIES = 4000, 2000
"""Most labelled training pictures that vote and that the probe is fitted to; most validation pictures."""

Floats = NDArray[np.float32]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Signal:
    """spread and rank: of the validation pictures' embeddings. alignment, uniformity: see
    :mod:`resight.evaluation.representation`. knn, linear: the share of validation pictures that labelled training
    pictures answer rightly, by vote and by a linear probe; None without labels.
    """

    spread: float
    rank: float
    alignment: float
    uniformity: float
    knn: float | None = None
    linear: float | None = None

    @property
    def loss(self) -> float:
        """How far two views of a picture lie apart: NaN where the network's answers are not finite."""
        return self.alignment

    def entry(self, config: TrainConfig) -> dict[str, Any]:
        """What metrics.jsonl says of it."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Signals:
    """Looks at a network: up to ``QUERIES`` validation pictures, and ``BANK`` labelled training pictures beside them.

    bank: the training pictures as they will be answered, with their labels, int64; None where there are no labels.
    labels: of the validation pictures. Which pictures are taken depends on the seed alone. Every process looks at all
    of them: they come to the same, and none waits for another.
    """

    def __init__(
        self,
        config: TrainConfig,
        bank: Pictures | None = None,
        labels: NDArray[np.int64] | None = None,
        classes: int = 0,
    ) -> None:
        self.config, self.bank, self.labels, self.classes = config, bank, labels, classes

    def __call__(
        self, objective: Objective, val: Pictures, config: TrainConfig, accelerator: Accelerator, _: int, stop: Stop
    ) -> Signal | None:
        """None when asked to stop meanwhile."""
        # Of several processes each would have to see the signal at once: they look on, and stop after it.
        asked: Stop = stop if accelerator.num_processes == 1 else lambda: False
        chosen = some(len(val), QUERIES, config.seed)
        rows = embedded(objective, val, chosen, asked)
        first, second = (self._views(objective, val, chosen, number, asked) for number in (0, 1))
        banked = None
        if self.bank is not None:
            voters = some(len(self.bank), BANK, config.seed)
            banked = embedded(objective, self.bank, voters, asked)
            if banked is None:
                return None
        if rows is None or first is None or second is None:
            return None
        if not all(np.isfinite(found).all() for found in (rows, first, second)):
            return Signal(*[float("nan")] * 4)
        knn = linear = None
        if self.bank is not None and banked is not None and self.labels is not None:
            known, truth = self.bank.labels[voters], self.labels[chosen]
            knn = float((knn_vote(banked, known, rows, self.classes).argmax(1) == truth).mean())
            linear = linear_accuracy(banked, known, rows, truth)
        near, even = alignment(first, second), uniformity(rows)
        return Signal(spread(rows), effective_rank(rows), near, even, knn, linear)

    def _views(
        self, objective: Objective, val: Pictures, chosen: NDArray[np.int64], number: int, stop: Stop
    ) -> Floats | None:
        """Embeddings of one view of the validation pictures, the same in every epoch."""
        config, size = self.config, max(1, min(256, self.config.batch))

        def batches() -> Iterator[Tensor]:
            for start in range(0, len(chosen), size):
                view = view_of(val, config, number, 0, chosen[start : start + size])
                yield apply(config.augment, view.pixels, view.parameters)

        return _answers(objective, batches(), stop)


def some(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Positions of up to ``most`` of ``count`` pictures, in order, drawn by the seed."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def embedded(
    objective: Objective, pictures: Pictures, chosen: NDArray[np.int64], stop: Stop = lambda: False
) -> Floats | None:
    """float32 (N, D): what the network that will be kept says of these pictures; None when asked to stop."""
    return _answers(objective, eval_batches(pictures, chosen, 256), stop)


@torch.inference_mode()
def _answers(objective: Objective, batches: Iterator[Tensor], stop: Stop) -> Floats | None:
    objective.eval()
    device, rows = next(objective.parameters()).device, []
    for pixels in batches:
        if stop():
            return None
        images = objective.normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last)
        rows.append(objective.kept(images).float().cpu().numpy())
    return np.concatenate(rows)


def linear_accuracy(
    bank: Floats, labels: NDArray[np.int64], queries: Floats, truth: NDArray[np.int64], penalty: float = 1e-3
) -> float:
    """The share of queries that a logistic regression over the frozen embeddings answers rightly (Kornblith et al.
    2019, §3.1); one penalty for all, so that no label chooses anything.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = bank.mean(0), bank.std(0)
    std = np.where(std < 1e-6 * max(1.0, float(std.max())), 1.0, std)
    if len(set(labels.tolist())) < 2:
        return float((truth == labels[0]).mean())
    model = LogisticRegression(C=1 / (penalty * len(bank)), max_iter=200, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((bank - mean) / std, labels)
    return float((model.predict((queries - mean) / std) == truth).mean())


def seen_crops(config: TrainConfig, step: int) -> int:
    """Crops that the network has learned from after so many updates: all views of all pictures, small ones too."""
    return step * config.batch * (config.pretrain.views + config.pretrain.local_views)
