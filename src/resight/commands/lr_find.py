"""``resight lr-find``: how the loss answers to a rising learning rate, as a curve and as a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.resume import build_training
from resight.commands.start import card_of, decide, look
from resight.commands.whole_only import refuse_tiles
from resight.errors import TrainingError, UsageError
from resight.images import printable
from resight.runs import Run
from resight.runs.storage import write_atomic

if TYPE_CHECKING:
    from resight.tuning.rates import Curve

UPDATES = 100
_BELOW, _ABOVE = 1e-3, 1e2  # the ends of the ramp, times the recipe's rate
_ENDINGS = {"--out": (".png", ".svg")}


@dataclass(frozen=True)
class RateCurve:
    """What was found. recipe_rate: what would be used without. plot: where the curve was drawn. anew: the last layer
    started from nothing, though the recipe's training starts from a probe."""

    curve: Curve
    recipe_rate: float
    batch: int
    optimizer: str
    plot: Path
    anew: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        curve = self.curve
        found = {"suggestion": curve.suggestion, "lowest": curve.lowest, "steepest": curve.steepest}
        about = {"recipe_rate": self.recipe_rate, "batch": self.batch, "optimizer": self.optimizer}
        about["last_layer_anew"] = self.anew
        return {**found, **about, **asdict(curve), "plot": str(self.plot)}

    def to_text(self) -> str:
        """For a terminal."""
        curve = self.curve
        why = {
            "diverged": "the loss diverged",
            "not finite": "the loss was no longer finite",
            "highest rate": "the highest rate was reached",
        }[curve.ended]
        lines = [f"{len(curve.rates)} updates of {self.batch} pictures, {self.optimizer}; then {why}"]
        if curve.suggestion is None or curve.lowest is None:
            lines.append("the loss never fell: nothing to suggest; try a higher --low, or more --updates")
        else:
            steepest = f", steepest at {curve.steepest:.2g}" if curve.steepest else ""
            lines.append(f"loss lowest at {curve.lowest:.2g}{steepest}; the recipe has {self.recipe_rate:g}")
            if curve.open_end:
                lines.append("the loss was still falling at the highest rate: try a higher --high")
            lines.append(f"the highest at which it still fell, for the peak of a schedule: --lr {curve.suggestion:g}")
        if self.anew:
            lines.append(
                "note: the last layer starts anew here, where this recipe's training starts from the probe: "
                "the rate is for a new last layer, and may be too high after the probe"
            )
        return "\n".join([*lines, f"the curve: {printable(str(self.plot))}"])


def lr_find(
    data: str | Path,
    *,
    low: float | None = None,
    high: float | None = None,
    updates: int = UPDATES,
    out: str | Path = "lr.png",
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> RateCurve:
    """Trains a few updates with a rising rate, draws the loss, and suggests a peak rate. No Run is made or changed.

    low, high: ends of the ramp; default 1/1,000 and 100 times the recipe's rate. out: a PNG or SVG file. options and
    set: as of ``train``, but for the rate and the schedule. Pictures have the size that training ends with.

    Raises UsageError, DataError, TrainingError when not even the first update has a finite loss.
    """
    need("the learning-rate finder", "train", "torch", "accelerate", "pydantic", "matplotlib")
    from resight.recipes.options import wishes_of
    from resight.training import prepare

    check_outputs({"--out": Path(out)}, endings=_ENDINGS)
    wishes, recipe = wishes_of(options, set)
    refuse_tiles(wishes, "resight lr-find")
    _check(wishes, low, high, updates)
    if prepare.first_look(dict(wishes), recipe).transfer.rung == "features":
        raise UsageError("features alone are made without updates: there is no rate", hint="--recipe transfer")
    from resight.training.progress import reporter
    from resight.tuning.rates import ramp, sweep

    report = reporter()
    looked = look(data, wishes, recipe, report.say)
    config, source = decide(looked, wishes, recipe, report.say)
    card = card_of(looked, config, source)
    recipe_rate = config.optimizer.lr
    ends = low or _BELOW * recipe_rate, high or _ABOVE * recipe_rate
    if ends[0] >= ends[1]:
        raise UsageError(f"the ramp would go from {ends[0]:g} to {ends[1]:g}", hint="--high must be above --low")
    config.schedule.name, config.schedule.milestones, config.schedule.warmup = "constant", [], 0.0
    config.data.start_scale, config.optimizer.average_epochs = 1.0, 0.0
    anew, config.transfer.rung = config.transfer.rung == "lpft", "none"  # the probe belongs to a Run, and none is made
    config.total_steps, config.auto_batch, config.compile = updates, False, False
    training = build_training(Run(Path(out), card), config, looked.samples, report, fresh=True)
    report.start(0, updates, config.batch)
    try:
        rates = ramp(*ends, updates)
        curve = sweep(training, rates, lambda done, loss: report.step(done, loss, rates[done - 1]))
    finally:
        report.close()
    if not curve.rates:
        raise TrainingError(f"the loss is not finite at the lowest rate, {ends[0]:g}", hint="give a lower --low")
    _draw(curve, recipe_rate, Path(out))
    return RateCurve(curve, recipe_rate, config.batch, config.optimizer.name, Path(out), anew)


def _check(wishes: Mapping[str, Any], low: float | None, high: float | None, updates: Any) -> None:
    """Refuses what would have no effect here."""
    for name in wishes:
        if name.startswith("schedule.") or name in _WITHOUT_EFFECT:
            raise UsageError(f"{name} has no effect on the learning-rate finder", hint="leave it out")
    if type(updates) is not int or updates < 10:
        raise UsageError(f"--updates is {updates!r}; expected a whole number, 10 or more")
    for option, value in (("--low", low), ("--high", high)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} is {value!r}; expected a number above 0")


_WITHOUT_EFFECT = frozenset(
    {
        *("epochs", "budget_seconds", "total_steps", "patience", "compile", "tensorboard"),
        *("save_minutes", "save_steps", "keep", "data.start_scale", "data.grow_until", "data.fix_share"),
        "optimizer.average_epochs",
    }
)


def _draw(curve: Curve, recipe_rate: float, out: Path) -> None:
    from resight.reporting.page import image
    from resight.reporting.tuning import rate_figure

    marks = {"suggested": curve.suggestion, "lowest": curve.lowest, "the recipe's": recipe_rate}
    figure = rate_figure(curve.rates, curve.losses, curve.smoothed, marks)
    write_atomic(out, image(figure, out.suffix.lower().removeprefix(".")))
