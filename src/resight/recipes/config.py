"""The complete configuration of a training. Every field has an effect; an unknown one is an error.

``TrainConfig`` is written to the Run as ``config.json``, resolved: what was ``auto`` has become a value, and the
number of steps is fixed. From there on training is a function of this file and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resight.errors import UsageError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Which network. ``options`` are fields of :class:`resight.models.ResNetSpec` that differ from the name's.

    zero_gamma: every block starts as its shortcut (Goyal et al. 2017, §5.1). whitening: the first convolution starts
    as a whitening of the training pictures' patches (Jordan 2024, §3.2). checkpointing: activations are computed
    again for the backward pass, for memory.
    """

    name: str = "resnet18"
    options: dict[str, str | int | float | bool] = {}
    weights: str | None = None
    zero_gamma: bool = True
    whitening: bool = False
    checkpointing: bool = False


class DataConfig(Section):
    """Where the pictures are and what the network sees of them.

    image_size: side in pixels of the answering square. train_size: side while training, if another. start_scale:
    side at the first update, as a share of train_size; it grows in steps to train_size, reached after the fraction
    ``grow_until`` of the updates. 1: no growth.
    crop_ratio: side of the centre crop divided by the shorter side of the resized picture, for ``crop``.
    geometry_version: how JPEGs are decoded: 1 in full, 2 large ones at a part of their size.
    channels: 1 (grey) or 3 (RGB); 0 decides by the files. mean, std: of pixels in [0, 1], empty: measured.
    workers: threads that decode. cache_gb: decoded pictures kept in memory, in GiB. disk_cache_gb: the most that
    decoded pictures of all trainings take on the disk, in GiB; a part that does not fit into memory is kept there; 0
    for none.
    """

    path: str = ""
    val_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    skip_bad: bool = False
    image_size: int = Field(0, ge=0, le=4096)
    train_size: int = Field(0, ge=0, le=4096)
    start_scale: float = Field(1.0, ge=0.25, le=1)
    grow_until: float = Field(0.7, gt=0, lt=1)
    geometry: Literal["crop", "squash", "letterbox"] = "crop"
    crop_ratio: float = Field(1.0, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    geometry_version: Literal[1, 2] = 2
    channels: Literal[0, 1, 3] = 0
    mean: list[float] = []
    std: list[float] = []
    workers: int = Field(2, ge=0, le=64)
    cache_gb: float = Field(4.0, ge=0)
    disk_cache_gb: float = Field(20.0, ge=0)


class AugmentConfig(Section):
    """What is changed at random in each training picture.

    crop: ``resized`` (random area and aspect; Szegedy et al. 2015), ``shift`` (by up to ``shift`` pixels;
    He et al. 2015, §4.2), ``none``. flip: ``random``, or ``alternate``: at random in the first epoch, from then on
    the other way round in each (Jordan 2024, §3.6). policy: ``trivial`` (TrivialAugment, Müller and Hutter 2021) or
    ``rand`` (RandAugment, Cubuk et al. 2020; ``rand_count`` operations of strength ``rand_magnitude`` of 30).
    color: brightness, contrast and saturation factors in [1 − color, 1 + color]. erasing: probability
    (Zhong et al. 2017). mixup, cutmix: the α of their Beta distributions, 0 turns them off; with both, each
    is taken for half of the batches (Zhang et al. 2018; Yun et al. 2019).
    """

    crop: Literal["none", "shift", "resized"] = "resized"
    scale_min: float = Field(0.35, gt=0, le=1)
    scale_max: float = Field(1.0, gt=0, le=1)
    shift: int = Field(4, ge=0)
    shift_padding: Literal["zero", "reflect"] = "reflect"
    flip: Literal["none", "random", "alternate"] = "random"
    policy: Literal["none", "trivial", "rand"] = "none"
    rand_count: int = Field(2, ge=1, le=4)
    rand_magnitude: float = Field(9, ge=0, le=30)
    color: float = Field(0.0, ge=0, lt=1)
    erasing: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)


class OptimizerConfig(Section):
    """lr: the peak rate, for the whole effective batch. muon_scale: with ``muon``, the rate of the weights that it
    orthogonalises (Jordan et al. 2024), as a share of ``lr``; all others take SGD steps. decay_norms: also decay norms
    and biases.

    clip: largest gradient norm, 0 for none. average_epochs: horizon of the exponential moving average of
    the weights, in epochs; 0 for none.
    """

    name: Literal["sgd", "adamw", "lamb", "muon"] = "sgd"
    lr: float = Field(0.1, gt=0)
    muon_scale: float = Field(0.25, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    beta2: float = Field(0.999, gt=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    decay_norms: bool = False
    clip: float = Field(0.0, ge=0)
    average_epochs: float = Field(0.0, ge=0)


class ScheduleConfig(Section):
    """``cosine`` to zero, ``onecycle`` (linear up over ``warmup`` and linear down), ``step`` (times ``gamma`` at
    each milestone), ``constant``. warmup and milestones are fractions of the training, in [0, 1]."""

    name: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)
    milestones: list[float] = []
    gamma: float = Field(0.1, gt=0, lt=1)


class TrainConfig(Section):
    """One training, complete. ``total_steps`` is 0 until it is resolved.

    recipe: the name of what the rest was made from. epochs, budget_seconds (wall-clock time) and total_steps (updates)
    each say how long to train, by ascending precedence; 0 leaves it to the ones before. batch: pictures in one update,
    over all processes. micro_batch: pictures in one forward pass of one process, 0 for all of its share; auto_batch
    chooses it by the memory there is. save_minutes: between checkpoints inside an epoch; save_steps: the same in steps,
    0 for off. keep: the newest checkpoints that are kept, besides the best. patience: epochs without a better
    validation, 0: never stop. compile: translate the network with torch.compile first, which takes a minute or more for
    each picture size. threads: of PyTorch, 0 for all cores. tensorboard: also write numbers for TensorBoard.
    """

    recipe: str = "quick"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    epochs: float = Field(15, gt=0)
    budget_seconds: float = Field(0.0, ge=0)
    auto_batch: bool = False
    batch: int = Field(128, ge=1)
    micro_batch: int = Field(0, ge=0)
    patience: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    threads: int = Field(0, ge=0)
    save_minutes: float = Field(5.0, gt=0)
    save_steps: int = Field(0, ge=0)
    keep: int = Field(2, ge=1)
    tensorboard: bool = False
    total_steps: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.augment.scale_min > self.augment.scale_max:
            raise ValueError("augment.scale_min is larger than augment.scale_max")
        if self.optimizer.nesterov and self.optimizer.name in ("sgd", "muon") and self.optimizer.momentum == 0:
            raise ValueError("optimizer.nesterov needs optimizer.momentum > 0")
        if self.model.whitening and self.model.weights:
            raise ValueError("model.whitening would replace the first convolution of model.weights")
        if self.loss == "bce" and self.label_smoothing:
            raise ValueError("label_smoothing belongs to loss=cross_entropy")
        if self.schedule.milestones and self.schedule.name != "step":
            raise ValueError("schedule.milestones belong to schedule.name=step")
        if not all(0 < milestone < 1 for milestone in self.schedule.milestones):
            raise ValueError("schedule.milestones are fractions of the training, between 0 and 1")
        if len(self.data.mean) != len(self.data.std) or not all(value > 0 for value in self.data.std):
            raise ValueError("data.mean and data.std need one value per channel each, std above 0")
        return self

    def to_json(self) -> bytes:
        return (json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> TrainConfig:
        """Raises UsageError for what is no configuration. Files of older versions keep their meaning."""
        try:
            return cls.model_validate_json(_renewed(data))
        except ValidationError as error:
            raise UsageError(f"{name}: {explain(error)}") from error


def _renewed(data: bytes) -> bytes:
    """A config.json as this version writes it: until ``data.geometry_version`` there was version 1 only,
    ``augment.flip`` was true or false, and Muon's rate was not a share of ``optimizer.lr``."""
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        return data  # pydantic says what is wrong

    def section(name: str) -> dict[str, Any]:
        found = plain.get(name) if isinstance(plain, dict) else None
        return found if isinstance(found, dict) else {}

    augment, optimizer = section("augment"), section("optimizer")
    section("data").setdefault("geometry_version", 1)
    if isinstance(augment.get("flip"), bool):
        augment["flip"] = "random" if augment["flip"] else "none"
    match optimizer:
        case {"muon_lr": float() | int() as rate, "lr": float() | int() as lr} if lr > 0:
            del optimizer["muon_lr"]
            optimizer.setdefault("muon_scale", rate / lr)
    return json.dumps(plain).encode()


def explain(error: ValidationError) -> str:
    """pydantic's findings in one line each: the field, what was found, what was expected."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "the configuration"
        found = f", not {item['input']!r}" if item["loc"] and item["type"] != "extra_forbidden" else ""
        what = "there is no such option" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{where}: {what}{found}")
    return "; ".join(lines)


def override(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """A copy with dotted fields replaced, e.g. ``{"optimizer.lr": 0.05, "epochs": "3"}``; strings are parsed.

    Raises UsageError for an unknown field (with the ones that exist) or a value that does not fit.
    """
    plain = config.model_dump()
    for dotted, value in changes.items():
        *sections, name = dotted.split(".")
        target: Any = plain
        for section in sections:
            target = target.get(section) if isinstance(target, dict) else None
        free = sections == ["model", "options"]
        if not isinstance(target, dict) or (name not in target and not free):
            options = ", ".join(target) if isinstance(target, dict) else ", ".join(plain)
            raise UsageError(f"there is no option '{dotted}'", hint=f"options there: {options}")
        target[name] = _parse(value, like=target.get(name)) if isinstance(value, str) else value
    try:
        return TrainConfig.model_validate(plain)
    except ValidationError as error:
        raise UsageError(explain(error)) from error


_BELOW_ONE = ("a share below 1",)
# Options that another one decides over: {option: (the other, its values with which the option has an effect)}.
_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
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
    "data.crop_ratio": ("data.geometry", ("crop",)),
    "data.grow_until": ("data.start_scale", _BELOW_ONE),
    "save_minutes": ("save_steps", (0,)),
    "auto_batch": ("micro_batch", (0,)),
    "epochs": ("budget_seconds", (0,)),
}


def check_effects(config: TrainConfig, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for a change that another option makes meaningless: nothing is silently ignored."""
    for name in changes:
        other, useful = _ONLY_WITH.get(name, ("", ()))
        if not other:
            continue
        section, _, field = other.rpartition(".")
        value = getattr(getattr(config, section) if section else config, field)
        if value not in useful and not (useful is _BELOW_ONE and value < 1):
            raise UsageError(
                f"{name} has no effect while {other} is {value}",
                hint=f"leave it out, or use --set {other}={' or '.join(map(str, useful))}",
            )
    if config.total_steps and {"epochs", "budget_seconds"} & set(changes):
        raise UsageError("total_steps says how long to train: epochs or a budget would have no effect")


def _parse(text: str, *, like: Any) -> Any:
    """A value as typed on the command line: JSON where it is JSON (1e-3, true, [0.5]), else the text itself."""
    if isinstance(like, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
