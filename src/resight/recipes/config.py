"""The complete configuration of a training. Every field has an effect; an unknown one is an error.

``TrainConfig`` is written to the Run as ``config.json``, resolved: what was ``auto`` has become a value, and the
number of steps is fixed. From there on training is a function of this file and the step.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from resight.errors import UsageError
from resight.recipes.sections import (
    AugmentConfig,
    BalanceConfig,
    DataConfig,
    DistillConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    ScheduleConfig,
    Section,
    TilesConfig,
    TransferConfig,
)
from resight.runs.plain_json import json_bytes, read_json


class TrainConfig(Section):
    """One training, complete. ``total_steps`` is 0 until it is resolved.

    recipe: the name of what the rest was made from. task: one class a picture, or any number; the data say it. loss:
    ``bce`` is over the classes (Wightman et al. 2021, §3); ``focal`` weighs the cross-entropy of each class by
    (1 − p)^focal_gamma of its probability p (Lin et al. 2017, eq. 4, over the softmax). select: the best epoch has the
    highest accuracy on validation, or the highest mean of the classes' recalls (``balanced``). epochs, budget_seconds
    (wall-clock time) and total_steps (updates) each say how long to train, by ascending precedence; 0 leaves it to the
    ones before. batch: pictures in one update, over all processes. micro_batch: pictures in one forward pass of one
    process, 0 for all of its share; auto_batch chooses it by the memory there is. memory_gb: the most that the training
    may take, in GiB (of the process; on a GPU, of its memory), 0: what is there. save_minutes: between checkpoints
    inside an epoch; save_steps: the same in steps, 0 for off. keep: the newest checkpoints that are kept, besides the
    best. patience: epochs without a better validation, 0: never stop. compile: translate the network with
    torch.compile first, which takes a minute or more for each picture size. threads: of PyTorch, 0 for all cores.
    tensorboard: also write numbers for TensorBoard.
    """

    recipe: str = "quick"
    task: Literal["single", "multi"] = "single"
    model: ModelConfig = ModelConfig()
    transfer: TransferConfig = TransferConfig()
    data: DataConfig = DataConfig()
    tiles: TilesConfig = TilesConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    balance: BalanceConfig = BalanceConfig()
    distill: DistillConfig = DistillConfig()
    pretrain: PretrainConfig = PretrainConfig()
    loss: Literal["cross_entropy", "bce", "focal"] = "cross_entropy"
    focal_gamma: float = Field(2.0, gt=0, le=10)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    select: Literal["accuracy", "balanced"] = "accuracy"
    epochs: float = Field(15, gt=0)
    budget_seconds: float = Field(0.0, ge=0)
    auto_batch: bool = False
    batch: int = Field(128, ge=1)
    micro_batch: int = Field(0, ge=0)
    memory_gb: float = Field(0.0, ge=0)
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
            raise ValueError("label_smoothing belongs to loss=cross_entropy and loss=focal")
        if self.pretrain.local_min > self.pretrain.local_max:
            raise ValueError("pretrain.local_min is larger than pretrain.local_max")
        if wrong := self._contradiction():
            raise ValueError(wrong)
        if self.schedule.milestones and self.schedule.name != "step":
            raise ValueError("schedule.milestones belong to schedule.name=step")
        if not all(0 < milestone < 1 for milestone in self.schedule.milestones):
            raise ValueError("schedule.milestones are fractions of the training, between 0 and 1")
        if len(self.data.mean) != len(self.data.std) or not all(value > 0 for value in self.data.std):
            raise ValueError("data.mean and data.std need one value per channel each, std above 0")
        return self

    def _contradiction(self) -> str:
        """What contradicts itself in ``balance`` and about the end of the training; empty where nothing does."""
        balance = self.balance
        corrections = {
            f"balance.weights={balance.weights}": balance.weights != "none",
            f"balance.sampling={balance.sampling}": balance.sampling != "none",
            f"balance.logit_adjustment={balance.logit_adjustment:g}": balance.logit_adjustment > 0,
        }
        chosen = [name for name, on in corrections.items() if on]
        if len(chosen) > 1:
            return f"{' and '.join(chosen)} would correct the sizes of the classes twice: choose one of them"
        if self.data.fix_share and self.patience:
            return "patience could end the training before the updates of data.fix_share, which come last"
        if balance.logit_adjustment and self.loss != "cross_entropy":
            return f"balance.logit_adjustment is derived for loss=cross_entropy, not for {self.loss}"
        return ""

    def to_json(self) -> bytes:
        return json_bytes(self.model_dump())

    @classmethod
    def from_json(cls, data: bytes, name: str) -> TrainConfig:
        """Raises UsageError for what is no configuration. Files of older versions keep their meaning."""
        try:
            return cls.model_validate_json(_renewed(data))
        except ValidationError as error:
            raise UsageError(f"{name}: {explain(error)}") from error
        except ValueError as error:
            raise UsageError(f"{name} is not valid JSON: {error}") from error


def _renewed(data: bytes) -> bytes:
    """A config.json as this version writes it: until ``data.geometry_version`` there was version 1 only, until
    ``augment.crop_from`` random crops were cut from pictures, ``augment.flip`` was true or false, and Muon's rate
    was not a share of ``optimizer.lr``."""
    plain = read_json(data)

    def section(name: str) -> dict[str, Any]:
        found = plain.get(name) if isinstance(plain, dict) else None
        return found if isinstance(found, dict) else {}

    augment, optimizer = section("augment"), section("optimizer")
    section("data").setdefault("geometry_version", 1)
    if isinstance(plain, dict) and isinstance(plain.get("augment"), dict):
        plain["augment"].setdefault("crop_from", "picture")
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


def _parse(text: str, *, like: Any) -> Any:
    """A value as typed on the command line: JSON where it is JSON (1e-3, true, [0.5]), else the text itself."""
    if isinstance(like, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
