"""Recipes of ``resight pretrain``, one for each method, and what there has no effect.

Each docstring gives the source, the command and what to expect. They differ from their papers where those have batches
of thousands and hundreds of epochs: batches are of 256 at most, and a length is counted in crops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resight.errors import UsageError
from resight.recipes.config import TrainConfig
from resight.recipes.recipes import Facts
from resight.recipes.sections import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    ScheduleConfig,
)

CROPS = 1_000_000
"""How long a pretraining is unless it is said: crops that the network sees, of all pictures together."""


def _shared(facts: Facts) -> TrainConfig:
    """What all methods begin from: SimCLR's changes of pictures, SGD."""
    small = facts.small
    config = TrainConfig(
        recipe="simclr",
        model=ModelConfig(name="resnet20" if small else "resnet18", zero_gamma=False),
        data=DataConfig(image_size=max(28, facts.side)) if small else DataConfig(image_size=128, crop_ratio=0.875),
        augment=AugmentConfig(
            crop="resized",
            scale_min=0.2,
            color=0.4,
            hue=0.1,
            color_share=0.8,
            gray=0.2,
            blur=0.0 if small else 0.5,
        ),
        optimizer=OptimizerConfig(lr=0.1, weight_decay=1e-4),
        schedule=ScheduleConfig(name="cosine", warmup=0.05),
        pretrain=PretrainConfig(method="simclr", temperature=0.5 if small else 0.1),
        batch=256,
        epochs=1,
    )
    while config.batch > 32 and facts.count < 8 * config.batch:  # few pictures: some updates an epoch at least
        config.batch //= 2
    return config


def simclr(facts: Facts) -> TrainConfig:
    """SimCLR (Chen et al. 2020): their changes of small pictures (§B.9: no blur, temperature 0.5) or of photos (§A).

    Other optimizers than their LARS, which is for batches of thousands: for small pictures Muon (Jordan et al. 2024),
    with which a third of the crops gave more than all of them with SGD; for photos SGD, where Muon was not tried.
    Command: ``resight pretrain DATA --method simclr``. Expected: docs/pretraining.md.
    """
    config = _shared(facts)
    if facts.small:
        config.optimizer = OptimizerConfig(name="muon", lr=0.1, weight_decay=5e-4)
    return config


def byol(facts: Facts) -> TrainConfig:
    """BYOL (Grill et al. 2020), with the same changes for all views; momentum 0.99 at first, as they advise for short
    trainings (appendix, 300 epochs).

    Command: ``resight pretrain DATA --method byol``. Expected: docs/pretraining.md.
    """
    config = _shared(facts)
    config.recipe = "byol"
    config.pretrain = PretrainConfig(method="byol", momentum=0.99)
    return config


def fastsiam(facts: Facts) -> TrainConfig:
    """FastSiam (Pototzky et al. 2022): four views, whose mean steadies the target of small batches.

    Command: ``resight pretrain DATA --method fastsiam``. Expected: docs/pretraining.md.
    """
    config = _shared(facts)
    config.recipe = "fastsiam"
    config.pretrain = PretrainConfig(method="fastsiam", views=4, width=256)
    config.batch = min(config.batch, 128)
    return config


def dino(facts: Facts) -> TrainConfig:
    """DINO (Caron et al. 2021) for a ResNet: two whole views and four small ones of half the side.

    Command: ``resight pretrain DATA --method dino``. Expected: docs/pretraining.md.
    """
    config = _shared(facts)
    config.recipe = "dino"
    config.augment.scale_min = 0.4
    config.pretrain = PretrainConfig(
        method="dino",
        local_views=4,
        local_size=max(16, config.data.image_size // 2),
        hidden=512,
        width=1024,
        temperature=0.1,
        momentum=0.99,
    )
    config.batch = min(config.batch, 128)
    return config


METHODS: dict[str, Callable[[Facts], TrainConfig]] = {
    "simclr": simclr,
    "byol": byol,
    "fastsiam": fastsiam,
    "dino": dino,
}

# What belongs to labels, to choosing by them, or to networks whose last layer answers.
_OF_LABELS = ("balance", "distill", "transfer")
_NOT_HERE = {
    *("loss", "focal_gamma", "label_smoothing", "select", "patience", "micro_batch", "auto_batch", "compile", "task"),
    *("augment.mixup", "augment.cutmix", "augment.policy", "augment.rand_count", "augment.rand_magnitude"),
    *(
        "data.fix_share",
        "memory_gb",
        "data.start_scale",
        "data.grow_until",
        "model.freeze",
        "model.norms",
        "model.whitening",
    ),
    *("optimizer.average_epochs", "optimizer.layer_decay", "budget_seconds", "pretrain.method", "pretrain.unlabelled"),
}
_ONLY_BY: dict[str, tuple[str, ...]] = {
    "pretrain.temperature": ("simclr", "dino"),
    "pretrain.teacher_temperature": ("dino",),
    "pretrain.center": ("dino",),
    "pretrain.momentum": ("byol", "dino"),
    "pretrain.stop_gradient": ("byol", "fastsiam"),
    "pretrain.local_views": ("dino",),
    "pretrain.local_size": ("dino",),
    "pretrain.local_min": ("dino",),
    "pretrain.local_max": ("dino",),
}


def pretraining_recipe(method: str, facts: Facts) -> TrainConfig:
    """The named method's recipe. Raises UsageError with the names that exist."""
    if method not in METHODS:
        raise UsageError(f"there is no method '{method}'", hint=f"methods: {', '.join(METHODS)}")
    return METHODS[method](facts)


def check_pretraining(config: TrainConfig, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for a change that has no effect on a pretraining, or by this method."""
    method = config.pretrain.method
    for name in changes:
        if name.partition(".")[0] in _OF_LABELS or name in _NOT_HERE:
            raise UsageError(f"{name} has no effect on a pretraining, where no label is looked at", hint="leave it out")
        if method not in _ONLY_BY.get(name, (method,)):
            raise UsageError(
                f"{name} has no effect with --method {method}", hint=f"it belongs to {' and '.join(_ONLY_BY[name])}"
            )
        small = name in ("pretrain.local_size", "pretrain.local_min", "pretrain.local_max")
        if small and not config.pretrain.local_views:
            raise UsageError(f"{name} has no effect without small views", hint="--set pretrain.local_views=4")
    if config.augment.crop != "resized" and "augment.crop" in changes:
        raise UsageError("views of a pretraining are random crops: augment.crop=resized", hint="leave it out")
    if config.pretrain.method == "byol" and not config.pretrain.stop_gradient and "pretrain.momentum" in changes:
        raise UsageError("pretrain.momentum has no effect with pretrain.stop_gradient=false: nothing follows")
    if config.pretrain.local_views and config.pretrain.local_size < 8:
        raise UsageError("small views need a side of at least 8 px", hint="--set pretrain.local_size=16")


def refuse_pretraining(changes: Mapping[str, Any]) -> None:
    """Raises UsageError for fields of ``pretrain`` in a training with labels."""
    for name in changes:
        if name.startswith("pretrain."):
            raise UsageError(f"{name} belongs to resight pretrain", hint="leave it out")
