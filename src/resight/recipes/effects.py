"""Options that another one decides over: a wish that it makes meaningless is refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.models import spec_of
from resight.recipes.config import TrainConfig
from resight.recipes.pretraining import check_pretraining

_BELOW_ONE = ("a share below 1",)
_ABOVE_ZERO = ("a share above 0",)
_GIVEN = ("RUN",)
_BELOW_THE_LAST_LAYER = ("none", "stem", "any stage but the last")
# Options that another one decides over: {option: (the other, its values with which the option has an effect)}.
_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "augment.crop_from": ("augment.crop", ("resized",)),
    "augment.scale_min": ("augment.crop", ("resized",)),
    "augment.scale_max": ("augment.crop", ("resized",)),
    "augment.shift": ("augment.crop", ("shift",)),
    "augment.shift_padding": ("augment.crop", ("shift",)),
    "augment.rand_count": ("augment.policy", ("rand",)),
    "augment.rand_magnitude": ("augment.policy", ("rand",)),
    "optimizer.nesterov": ("optimizer.name", ("sgd", "muon")),
    "optimizer.muon_scale": ("optimizer.name", ("muon",)),
    "optimizer.beta2": ("optimizer.name", ("adamw", "lamb")),
    "schedule.gamma": ("schedule.name", ("step",)),
    "schedule.warmup_rate": ("schedule.warmup", _ABOVE_ZERO),
    "data.crop_ratio": ("data.geometry", ("crop",)),
    "data.grow_until": ("data.start_scale", _BELOW_ONE),
    "balance.beta": ("balance.weights", ("effective",)),
    "balance.weights": ("distill.weight", _BELOW_ONE),  # at 1 there is no loss of labels
    "balance.logit_adjustment": ("distill.weight", _BELOW_ONE),
    "loss": ("distill.weight", _BELOW_ONE),
    "label_smoothing": ("distill.weight", _BELOW_ONE),
    "focal_gamma": ("loss", ("focal",)),
    "distill.weight": ("distill.teacher", _GIVEN),
    "distill.temperature": ("distill.teacher", _GIVEN),
    "distill.sha256": ("distill.teacher", _GIVEN),
    "optimizer.layer_decay": ("model.freeze", _BELOW_THE_LAST_LAYER),
    "model.norms": ("model.freeze", _BELOW_THE_LAST_LAYER),
    "model.checkpointing": ("model.freeze", _BELOW_THE_LAST_LAYER),
    "transfer.head": ("transfer.rung", ("lpft",)),
    "transfer.folds": ("transfer.rung", ("lpft",)),
    "save_minutes": ("save_steps", (0,)),
    "auto_batch": ("micro_batch", (0,)),
    "epochs": ("budget_seconds", (0,)),
}
# The same, where two decide.
_AND_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {"augment.crop_from": ("data.geometry", ("squash", "letterbox"))}
# Without a loop, where the ladder ends with the features, these sections and options change nothing.
_OF_THE_LOOP = ("optimizer", "schedule", "balance", "distill", "pretrain", "tiles")
_IN_THE_LOOP = {
    *("data.train_size", "data.start_scale", "data.grow_until", "data.fix_share", "loss", "focal_gamma"),
    *("label_smoothing", "epochs", "budget_seconds", "auto_batch", "batch", "micro_batch", "memory_gb", "patience"),
    *("compile", "save_minutes", "save_steps", "keep", "total_steps"),
    *("model.freeze", "model.norms", "model.checkpointing", "transfer.head", "transfer.folds", "tensorboard"),
}


def needs_the_loop(name: str) -> bool:
    """Whether a dotted field changes nothing where only the last layer is made, without updates."""
    section = name.partition(".")[0]
    drawn = section == "augment" and name != "augment.flip"  # which says whether mirror images are features
    return section in _OF_THE_LOOP or name in _IN_THE_LOOP or drawn


def check_effects(config: TrainConfig, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for a change that another option makes meaningless: nothing is silently ignored."""
    if config.pretrain.method != "none":
        check_pretraining(config, changes)
    for name in changes:
        if config.transfer.rung == "features" and needs_the_loop(name):
            raise UsageError(
                f"{name} has no effect with transfer.rung=features: only the last layer is made, without updates",
                hint="leave it out, or train the other layers, too: --recipe transfer",
            )
        if name == "augment.color_share" and not (config.augment.color or config.augment.hue):
            raise UsageError(f"{name} has no effect while augment.color and augment.hue are 0", hint="leave it out")
        if name == "model.norms" and spec_of(config.model.name, **config.model.options).norm == "none":
            raise UsageError("model.norms has no effect with model.options.norm=none: there are no norms")
        for table in (_ONLY_WITH, _AND_WITH):
            if name in table:
                _check_other(config, name, *table[name])
    if config.total_steps and {"epochs", "budget_seconds"} & set(changes):
        raise UsageError("total_steps says how long to train: epochs or a budget would have no effect")


def _check_other(config: TrainConfig, name: str, other: str, useful: tuple[Any, ...]) -> None:
    section, _, field = other.rpartition(".")
    value = getattr(getattr(config, section) if section else config, field)
    if not _useful(config, value, useful):
        raise UsageError(
            f"{name} has no effect while {other} is {value}",
            hint=f"leave it out, or use --set {other}={' or '.join(map(str, useful))}",
        )


def _useful(config: TrainConfig, value: Any, useful: tuple[Any, ...]) -> bool:
    if useful is _BELOW_ONE:
        return bool(value < 1)
    if useful is _BELOW_THE_LAST_LAYER:
        stages = len(spec_of(config.model.name, **config.model.options).depths)
        return value not in ("backbone", f"stage{stages}")
    return bool(value) if useful in (_GIVEN, _ABOVE_ZERO) else value in useful
