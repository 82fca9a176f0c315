"""``train --model auto``: advice first, then the training that it advises."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.advising import Advice

AUTO = "auto"
_PHOTOS = "photos usually gain most from ImageNet weights: --weights tv2_in1k would start from them (a download)"


def resolve(
    data: str | Path, wishes: Mapping[str, Any], recipe: str | None, say: Callable[[str], None], *, scratch: bool
) -> tuple[dict[str, Any], Advice]:
    """The wishes with the advised network, size, weights and length instead of ``auto`` and a budget; and the advice.

    Weights are never fetched for it: without ``model.weights`` among the wishes, only those that are here count, and
    none with ``scratch``. Raises what ``advise`` raises, and UsageError under torchrun.
    """
    from resight.commands.advise import decide
    from resight.training.named import data_path

    need("--model auto", "train", "torch", "onnx")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--model auto measures one process, not several", hint="run resight advise first, and name the --model"
        )
    wishes = dict(wishes)
    for name in ("model.name", "model.options"):
        wishes.pop(name, None)
    size = wishes.pop("data.image_size", None)
    budget = wishes.pop("budget_seconds", None)
    if scratch:
        wishes["model.weights"] = "none"
    advice = decide(data_path(data), wishes, recipe, say, budget=budget, image_size=size, download=False)
    best = advice.best
    say("\n".join(advice.brief()))
    if not advice.data.small and not best.candidate.weights and not wishes.get("model.weights"):
        say(f"note: {_PHOTOS}")
    wishes.pop("model.weights", None)
    wishes |= best.candidate.wishes()
    if budget is not None and best.steps:
        wishes["epochs"] = best.epochs
    return wishes, advice


def note(path: Path, advice: Advice, begun: float) -> None:
    """Keeps the advice with the new Run. begun: when its training began, of ``time.time()``."""
    from resight.training.spent import record

    record(path, advice.to_dict(), advice.best.seconds, advice.best.memory, begun)


def now() -> float:
    return time.time()
