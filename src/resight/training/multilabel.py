"""Training on pictures with any number of labels: targets, what counts as right, and what validation selects by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resight.errors import DataError
from resight.evaluation.multilabel import binary_log_loss, mean_average_precision, rankable, subset_accuracy
from resight.recipes.config import TrainConfig
from resight.samples import SampleSet
from resight.training.augment import one_hot


def targets_of(config: TrainConfig, labels: Tensor, classes: int, towards: Tensor | None = None) -> Tensor:
    """What the loss compares with, float32 (B, K): one-hot and smoothed (``towards`` shares) from int64 (B,), or uint8
    (B, K) as it is.
    """
    if config.task == "multi":
        return labels.float()
    return one_hot(labels, classes, config.label_smoothing, towards)


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of B pictures are answered rightly, float32 (): the best class, or, of several labels, all of them at a
    probability of 0.5.
    """
    if labels.ndim == 1:
        return (logits.argmax(1) == labels).sum().float()
    return ((logits > 0) == (labels > 0)).all(1).sum().float()


def scores(logits: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float, float]:
    """Of validation, (N, K) each: the share of pictures with all labels right at 0.5, the log loss of a label in nats,
    and mAP, by which the best epoch is chosen.
    """
    ranked = mean_average_precision(logits, targets)
    assert ranked is not None  # `check_classes` has seen to that
    return subset_accuracy(logits > 0, targets), binary_log_loss(logits, targets), ranked


def check_classes(samples: SampleSet) -> None:
    """Raises DataError unless some class can be learned and validated: some pictures of train and of val have it, and
    some have not.
    """
    if samples.task == "single":
        return
    for part, purpose in (("train", "learned"), ("val", "validated")):
        targets = samples.targets(samples.part(part)).astype(bool)
        if not rankable(targets):
            raise DataError(
                f"no class can be {purpose}: of {len(targets):,} pictures in {part}, none of the "
                f"{len(samples.classes):,} classes is on some and not on others",
                hint="add pictures with and without each label" + (", or raise data.val_fraction" * (part == "val")),
            )
