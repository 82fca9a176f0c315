"""Validation: the network in evaluation mode over a whole part, each picture counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from resight.evaluation import accuracy, confusion, log_loss, macro
from resight.recipes.config import TrainConfig
from resight.training.bags import Bags
from resight.training.loader import Pictures, eval_batches
from resight.training.multilabel import scores
from resight.training.objective import Objective


@dataclass(frozen=True)
class Validation:
    """logits: float32 (N, C), in the part's order. accuracy in [0, 1], loss in nats. recall in [0, 1]: the mean over
    the classes that the part has, also called balanced accuracy; None of any number of labels. Of those the accuracy is
    the share of pictures with all of them right at 0.5, the loss that of a label, and mean_average_precision what the
    best epoch is chosen by.
    """

    logits: NDArray[np.float32]
    accuracy: float
    loss: float
    recall: float | None = None
    mean_average_precision: float | None = None

    def entry(self, config: TrainConfig) -> dict[str, float]:
        """What metrics.jsonl says of it."""
        found = {"val_loss": self.loss, "val_accuracy": self.accuracy}
        if config.select == "balanced" and self.recall is not None:
            found["val_recall"] = self.recall
        if self.mean_average_precision is not None:
            found["val_map"] = self.mean_average_precision
        return found


@torch.inference_mode()
def answers(objective: Objective, pictures: Pictures, indices: NDArray[np.int64], batch: int) -> Iterator[Tensor]:
    """Logits of the pictures ``indices``, in order: float32 (≤ batch, K) at a time, on the network's device."""
    objective.eval()
    if isinstance(objective, Bags):
        yield from objective.answers(pictures, indices)
        return
    device = next(objective.parameters()).device
    for pixels in eval_batches(pictures, indices, batch):
        images = objective.normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last)
        yield objective.net.forward(images).float()  # eager also where training is compiled: no compiling for this


def validate(
    objective: Objective,
    pictures: Pictures,
    config: TrainConfig,
    accelerator: Accelerator,
    micro_batch: int,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Answers for all pictures of a part, at most ``micro_batch`` at a time; None when asked to stop meanwhile.

    Each rank takes every w-th picture. Shares are padded to one length for gathering and the padding is cut off
    again, so nothing is counted twice.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    mine = np.arange(rank, len(pictures), world)
    share = torch.zeros(-(-len(pictures) // world), objective.net.num_classes, device=accelerator.device)
    done = 0
    with accelerator.autocast():
        for logits in answers(objective, pictures, mine, min(256, micro_batch)):
            if world == 1 and asked_to_stop():
                return None
            share[done : done + len(logits)] = logits
            done += len(logits)
    gathered = accelerator.gather(share).cpu().numpy().reshape(world, -1, share.shape[1])
    whole = np.empty((len(pictures), share.shape[1]), np.float32)
    for r in range(world):
        part = whole[r::world]
        part[:] = gathered[r, : len(part)]
    if not np.isfinite(whole).all():
        return Validation(whole, *[float("nan")] * 2)
    labels = pictures.labels
    if config.task == "multi":
        exact, mean, ranked = scores(whole, labels)
        return Validation(whole, exact, mean, mean_average_precision=ranked)
    recall = macro(confusion(whole.argmax(1), labels, whole.shape[1])).recall
    return Validation(whole, accuracy(whole, labels).share, log_loss(whole, labels), recall)
