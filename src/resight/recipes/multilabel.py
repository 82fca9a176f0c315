"""What pictures with any number of labels change in every recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.recipes.config import TrainConfig, override


def with_several_labels(config: TrainConfig) -> TrainConfig:
    """The recipe for a multi-label set: binary cross-entropy of each class, without label smoothing, which belongs to
    the softmax.
    """
    config.label_smoothing = 0.0  # first: the two together are refused
    config.loss = "bce"
    config.task = "multi"
    return config


_DECIDED = ("balance.weights", "balance.sampling", "balance.logit_adjustment", "loss", "select", "distill.teacher")
"""Fields that need one class a picture, when they are set."""
_HINT = "leave it out: each class is learned for itself, and has a threshold of its own (docs/multilabel.md)"


def check_wishes(task: str, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for wishes that need one class a picture, before they are applied: what they would contradict
    beside that is not said.
    """
    for name in _DECIDED if task == "multi" else ():
        if name in changes:
            asked = override(TrainConfig(), {name: changes[name]})
            (_check_loss if name == "loss" else _check_options)(asked)


def check_task(config: TrainConfig, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for settings, of the recipe or wished for, that the data's labels leave no room for."""
    if "task" in changes:
        raise UsageError("task is what the data say: one label a picture, or any number", hint="leave it out")
    if config.task == "multi":
        _check_loss(config)
        _check_options(config)


def _check_loss(config: TrainConfig) -> None:
    if config.loss != "bce":
        raise UsageError(
            f"loss={config.loss} expects one class a picture; these pictures have any number of labels",
            hint="leave it out: they are trained with loss=bce",
        )


def _check_options(config: TrainConfig) -> None:
    if wrong := _of_one_class(config):
        raise UsageError(
            f"{', '.join(wrong)}: for pictures with one class each; these have any number of labels", hint=_HINT
        )


def _of_one_class(config: TrainConfig) -> list[str]:
    """Options that are set and need one class a picture."""
    balance = config.balance
    wanted = {
        "balance.weights": balance.weights != "none",
        "balance.sampling": balance.sampling != "none",
        "balance.logit_adjustment": balance.logit_adjustment > 0,
        "select=balanced": config.select == "balanced",
        "distill.teacher": bool(config.distill.teacher),
        f"transfer.rung={config.transfer.rung}": config.transfer.rung != "none",
    }
    return [name for name, on in wanted.items() if on]
