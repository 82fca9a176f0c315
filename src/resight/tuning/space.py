"""What is searched: dimensions around the values that the recipe has anyway.

Flips are never searched: whether a mirrored picture means the same is known by a person, not by a score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from resight.errors import UsageError
from resight.recipes import TrainConfig, check_effects

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Kind = Literal["log", "linear", "whole", "choice"]


@dataclass(frozen=True)
class Dimension:
    """One field and where its values lie. base: what the recipe and the wishes have, always inside.

    kind: ``log`` and ``linear``: numbers from low to high; ``whole``: whole numbers, low + n · step; ``choice``: one of
    ``choices``. Numbers below ``least`` are 0: too weak to be worth a setting.
    """

    field: str
    kind: Kind
    base: Any
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    least: float = 0.0
    choices: tuple[str, ...] = ()

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.kind == "whole":
            return IntDistribution(int(self.low), int(self.high), step=self.step)
        return FloatDistribution(self.low, self.high, log=self.kind == "log")

    def value(self, drawn: Any) -> Any:
        """What is trained with: three significant digits, so that a command can say it exactly."""
        if self.kind in ("choice", "whole"):
            return drawn
        return 0.0 if drawn < self.least else min(self.high, max(self.low, float(f"{drawn:.3g}")))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "choices": list(self.choices)}


def _rate(config: TrainConfig, small: bool) -> list[Dimension]:
    lr = config.optimizer.lr
    return [Dimension("optimizer.lr", "log", lr, lr / 8, lr * 8)]


def _decay(config: TrainConfig, small: bool) -> list[Dimension]:
    decay = config.optimizer.weight_decay
    low, high = (decay / 10, decay * 10) if decay else (0.0, 1e-3)
    return [Dimension("optimizer.weight_decay", "log" if decay else "linear", decay, low, high)]


def _augment(config: TrainConfig, small: bool) -> list[Dimension]:
    augment = config.augment
    found = []
    if augment.crop == "resized":
        least, most = min(0.08, augment.scale_min), max(augment.scale_min, min(0.8, augment.scale_max))
        found.append(Dimension("augment.scale_min", "log", augment.scale_min, least, most))
    if augment.crop == "shift":
        most = max(4, 2 * augment.shift)
        found.append(Dimension("augment.shift", "whole", augment.shift, 0, most))
    if augment.policy == "rand":
        magnitude = augment.rand_magnitude
        found.append(Dimension("augment.rand_magnitude", "linear", magnitude, 0.0, min(30.0, max(4.0, 2 * magnitude))))
    else:
        found.append(Dimension("augment.policy", "choice", augment.policy, choices=("none", "trivial")))
    found.append(Dimension("augment.color", "linear", augment.color, 0.0, max(0.5, augment.color), least=0.02))
    return found


def _mixup(config: TrainConfig, small: bool) -> list[Dimension]:
    mixup, smoothing = config.augment.mixup, config.label_smoothing
    found = [Dimension("augment.mixup", "linear", mixup, 0.0, max(0.8, 2 * mixup), least=0.05)]
    if config.loss == "cross_entropy":
        found.append(Dimension("label_smoothing", "linear", smoothing, 0.0, max(0.2, smoothing), least=0.01))
    return found


def _size(config: TrainConfig, small: bool) -> list[Dimension]:
    size = config.data.image_size
    if small:
        raise UsageError(
            "the size is searched for photos only; these pictures are small and are taken as they are",
            hint="leave 'size' out of --space, or train with another --image-size",
        )
    return [Dimension("data.image_size", "whole", size, size - 32 if size >= 64 else size, size + 64, step=32)]


DIMENSIONS: dict[str, Callable[[TrainConfig, bool], list[Dimension]]] = {
    "lr": _rate,
    "decay": _decay,
    "augment": _augment,
    "mixup": _mixup,
    "size": _size,
}


def check_names(names: Iterable[str] | None) -> None:
    """Raises UsageError for a group that does not exist."""
    if unknown := [name for name in names or () if name not in DIMENSIONS]:
        raise UsageError(f"--space: there is no '{unknown[0]}'", hint=f"groups: {', '.join(DIMENSIONS)}")


def dimensions(
    config: TrainConfig, names: Iterable[str] | None, *, small: bool, fixed: Iterable[str] = ()
) -> list[Dimension]:
    """The dimensions of the groups ``names``; None: all that apply, but for ``fixed`` fields, that a wish has decided.

    config: complete, with the wishes; its values lie inside. small: the pictures are taken at their own size.
    A field that another one makes meaningless is none. Raises UsageError for a group that does not exist or does not
    apply, and when nothing is left to search.
    """
    check_names(names)
    found: list[Dimension] = []
    if names is not None:
        for name in dict.fromkeys(names):
            own = [d for d in DIMENSIONS[name](config, small) if _has_effect(config, d)]
            if not own:
                raise UsageError(f"--space {name}: nothing of it has an effect here", hint="leave it out")
            found += own
    else:
        every = [group for name, group in DIMENSIONS.items() if name != "size" or not small]
        decided = set(fixed)
        found = [
            d for group in every for d in group(config, small) if d.field not in decided and _has_effect(config, d)
        ]
    if not found:
        raise UsageError("nothing is left to search", hint=f"groups: {', '.join(DIMENSIONS)}")
    return found


def _has_effect(config: TrainConfig, dimension: Dimension) -> bool:
    try:
        check_effects(config, {dimension.field: dimension.base})
    except UsageError:
        return False
    return True


def wishes_of_trial(dims: Sequence[Dimension], params: Mapping[str, Any], base: TrainConfig) -> dict[str, Any]:
    """Dotted fields of a trial that differ from ``base``. params: what Optuna drew, by field."""
    values = {d.field: d.base if params[d.field] == d.base else d.value(params[d.field]) for d in dims}
    wishes = {d.field: values[d.field] for d in dims if values[d.field] != d.base}
    data = base.data
    size = wishes.get("data.image_size")
    if size and data.train_size not in (0, data.image_size):  # trained smaller than answered: stays in proportion
        wishes["data.train_size"] = max(28, round(data.train_size * size / data.image_size))
    return wishes
