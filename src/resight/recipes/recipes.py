"""Recipes: functions that return a complete configuration for what is known about the data.

Each docstring gives the source, the command and the score to expect. A variant calls its base and edits fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from resight.errors import UsageError
from resight.models import ARCHITECTURES, ResNetSpec, layers_of
from resight.recipes.config import TrainConfig
from resight.recipes.multilabel import with_several_labels
from resight.recipes.sections import AugmentConfig, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig

DEEP, DEEPEST = 110, 1000
"""Layers from which on `he2015_cifar` warms up, and blocks start as their shortcuts."""
WARMUP = {"warmup": 400 / 64_000, "warmup_rate": 0.1}


@dataclass(frozen=True)
class Facts:
    """What recipes may look at: training pictures, classes, the typical shorter side in pixels; the task, by which
    `recipe` changes every one; the network that was asked for, "" for the recipe's own.
    """

    count: int
    classes: int
    side: int
    task: Literal["single", "multi"] = "single"
    model: str = ""

    @property
    def small(self) -> bool:
        """Pictures of up to 80 px are taken as they are; larger ones are photos."""
        return self.side <= 80


def quick(facts: Facts) -> TrainConfig:
    """The default from scratch: short, one cycle, weight averaging.

    Source: one-cycle (Smith 2018), averaged weights (Izmailov et al. 2018), no decay on norms (He, T. et al. 2019).
    Small pictures: Muon (Jordan et al. 2024), and sizes that grow from one half (Howard 2018). Zero-gamma is off: with
    option A it leaves most channels of a CIFAR net empty at first, and short trainings on photos are no better with it.
    Photos: Nesterov SGD, growing sizes too, and a rate that stays as it is when few pictures make small batches.
    Labels are smoothed (Szegedy et al. 2016) for photos alone. Small pictures do better without: measured on CIFAR-10
    and Fashion-MNIST. Of photos there is one short training, which was no better without, so they keep it.
    Command: ``resight train DATA``. Expected: docs/experiments.md.
    """
    config = TrainConfig(
        recipe="quick",
        model=ModelConfig(name="resnet20" if facts.small else "resnet18", zero_gamma=False),
        optimizer=OptimizerConfig(lr=0.2, weight_decay=5e-4, average_epochs=1.0),
        schedule=ScheduleConfig(name="onecycle", warmup=0.2),
        label_smoothing=0.0 if facts.small else 0.1,
        epochs=15,
        batch=128,
    )
    if facts.small:
        config.data = DataConfig(image_size=max(28, facts.side), start_scale=0.5)
        config.optimizer.name = "muon"
        config.augment = AugmentConfig(crop="shift", shift=max(2, config.data.image_size // 8))
    else:
        config.data = DataConfig(image_size=128, start_scale=0.5, crop_ratio=0.875)
        config.augment = AugmentConfig(crop="resized", scale_min=0.25, color=0.2)
        config.epochs = 45
    # Few pictures make few steps: smaller batches and more epochs, at least some 600 updates.
    while config.batch > 32 and facts.count < 40 * config.batch:
        config.batch //= 2
        if facts.small:
            config.optimizer.lr /= 2
    config.epochs = max(config.epochs, min(60, round(600 * config.batch / max(1, facts.count))))
    return config


PLENTY = 20_000
"""Training pictures from which weights are tuned for longer and with stronger augmentation: where BiT's rule begins to
mix pictures (Kolesnikov et al. 2020, §3.3)."""


def transfer(facts: Facts) -> TrainConfig:
    """The default with weights: a ladder from frozen features to fine-tuning; the best by validation is kept.

    First the last layer alone, by logistic regression over the frozen network's features. Then all layers, as
    ``finetune`` has it: some 600 updates from a new last layer; where a budget leaves less than half of them, from the
    regression's (LP-FT, Kumar et al. 2022). Where fewer than 30 pictures validate, thirds of the training pictures,
    held out in turn, say first whether they shall learn at all. From 20,000 pictures on with stronger augmentation: a
    rule from the literature, not measured here.
    Source: Kumar et al. 2022; Kolesnikov et al. 2020, §3.3; docs/transfer.md for the numbers.
    Command: ``resight train DATA --weights TAG|PATH|RUN``. Expected: docs/transfer.md.
    """
    config = finetune(facts)
    config.recipe = "transfer"
    config.transfer.rung, config.transfer.head, config.transfer.folds = "lpft", "new", 3
    if facts.count >= PLENTY:
        config.batch = 64
        config.augment = AugmentConfig(crop="resized", scale_min=0.25, policy="trivial", mixup=0.1)
    return config


def features(facts: Facts) -> TrainConfig:
    """The first rung of ``transfer`` alone: a classifier in seconds, by logistic regression over frozen features.

    Source: Kornblith et al. 2019, §3.1 (the penalty chosen on held-out pictures).
    Command: ``resight train DATA --weights TAG|PATH|RUN --recipe features``. Expected: docs/transfer.md.
    """
    config = transfer(facts)
    config.recipe = "features"
    config.transfer.rung = "features"
    config.optimizer.average_epochs = 0.0  # of no updates: a checkpoint is then half as large
    return config


def finetune(facts: Facts) -> TrainConfig:
    """Full fine-tuning: all layers from the start, a low rate, a light augmentation, at least some 600 updates.

    Source: the fine-tuning setting of Kornblith et al. 2019, §A.5, shortened; its length: docs/experiments.md.
    Command: ``resight train DATA --weights TAG|PATH|RUN --recipe finetune``. Expected: docs/transfer.md.
    """
    config = quick(facts)
    config.recipe = "finetune"
    config.label_smoothing = 0.1  # of small pictures too: they are enlarged; without it was measured from scratch alone
    config.model = ModelConfig(name="resnet18", zero_gamma=False)
    config.data = DataConfig(image_size=224, crop_ratio=0.875)
    config.augment = AugmentConfig(crop="resized", scale_min=0.35)
    config.optimizer = OptimizerConfig(lr=0.01, weight_decay=1e-4, average_epochs=1.0)
    config.schedule = ScheduleConfig(name="cosine", warmup=0.1)
    config.batch = 32
    while config.batch > 8 and facts.count < 16 * config.batch:  # few pictures make few updates
        config.batch //= 2
        config.optimizer.lr /= 2
    config.epochs = max(15, min(60, round(600 * config.batch / max(1, facts.count))))
    return config


def he2015_cifar(facts: Facts) -> TrainConfig:
    """He et al. 2015, §4.2: 64 k steps of 128, rate 0.1, divided by 10 at 32 k and 48 k, decay 1e-4.

    Command: ``resight train DATA --recipe he2015-cifar --model resnet20``.
    Networks of 110 layers and more begin with 400 updates at a tenth of the rate: the paper's ResNet-110 until its
    training error was below 80 %, after about 400; all of He et al. 2016, appendix.
    ResNet-1202 has zero-gamma besides, unlike the paper's: without, its loss rises at first (docs/deeper.md).
    Expected on lossless CIFAR-10, test error: ResNet-20 8.75 %, 32 7.51, 44 7.17, 56 6.97, 110 6.43, 1202 7.93;
    pre-activation 110 6.37, 164 5.46, 1001 4.92 (He et al. 2016, table 4).
    """
    batch = min(128, facts.count)
    spec = ARCHITECTURES.get(facts.model)
    layers = layers_of(spec) if spec else 0
    return TrainConfig(
        recipe="he2015-cifar",
        model=ModelConfig(name="resnet20", zero_gamma=layers >= DEEPEST and spec is not None and _sums(spec)),
        data=DataConfig(image_size=max(28, min(facts.side, 80))),
        augment=AugmentConfig(crop="shift", shift=4, shift_padding="zero"),
        optimizer=OptimizerConfig(lr=0.1, nesterov=False, weight_decay=1e-4, decay_norms=True),
        schedule=ScheduleConfig(name="step", milestones=[0.5, 0.75], **(WARMUP if layers >= DEEP else {})),
        batch=batch,
        epochs=64_000 / max(1, facts.count // batch),
    )


def _sums(spec: ResNetSpec) -> bool:
    """Whether each branch adds normalised numbers to its shortcut, so that the sum grows with every block."""
    return spec.shortcut != "none" and not spec.preactivation


def he2015_imagenet(facts: Facts) -> TrainConfig:
    """He et al. 2015, §3.4: batch 256, rate 0.1, divided by 10 twice, decay 1e-4; 90 epochs as commonly run.

    Command: ``resight train DATA --recipe he2015-imagenet --model resnet50``.
    Expected on ImageNet-1k, top-1: ResNet-18 69.8 %, 34 73.3, 50 76.1, 101 77.4, 152 78.3 (torchvision's V1).
    """
    return TrainConfig(
        recipe="he2015-imagenet",
        model=ModelConfig(name="resnet50", zero_gamma=False),
        data=DataConfig(image_size=224, crop_ratio=0.875),
        augment=AugmentConfig(crop="resized", scale_min=0.08),
        optimizer=OptimizerConfig(lr=0.1, nesterov=False, weight_decay=1e-4, decay_norms=True),
        schedule=ScheduleConfig(name="step", milestones=[1 / 3, 2 / 3]),
        batch=min(256, facts.count),
        epochs=90,
    )


def strikes_back_a3(facts: Facts) -> TrainConfig:
    """Wightman et al. 2021, table 2, column A3: LAMB, binary cross-entropy, trained at 160 px, tested at 224.

    Command: ``resight train DATA --recipe strikes-back-a3 --model resnet50``.
    Expected on ImageNet-1k, top-1: ResNet-18 68.2 %, 34 73.0, 50 78.1, 101 79.8, 152 80.6 (their table 4).
    """
    return TrainConfig(
        recipe="strikes-back-a3",
        model=ModelConfig(name="resnet50"),
        data=DataConfig(image_size=224, train_size=160, crop_ratio=0.95, interpolation="bicubic"),
        augment=AugmentConfig(
            crop="resized",
            scale_min=0.08,
            policy="rand",
            rand_count=2,
            rand_magnitude=18,  # "6" on their scale of 10
            mixup=0.1,
            cutmix=1.0,
        ),
        optimizer=OptimizerConfig(name="lamb", lr=8e-3, weight_decay=0.02),
        schedule=ScheduleConfig(name="cosine", warmup=0.05),
        loss="bce",
        batch=min(2048, facts.count),
        epochs=100,
    )


RECIPES: dict[str, Callable[[Facts], TrainConfig]] = {
    "quick": quick,
    "transfer": transfer,
    "features": features,
    "finetune": finetune,
    "he2015-cifar": he2015_cifar,
    "he2015-imagenet": he2015_imagenet,
    "strikes-back-a3": strikes_back_a3,
}


def recipe(name: str, facts: Facts) -> TrainConfig:
    """The named recipe for these facts. Raises UsageError with the names that exist."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}'", hint=f"recipes: {', '.join(RECIPES)}")
    config = RECIPES[name](facts)
    return config if facts.task == "single" else with_several_labels(config)
