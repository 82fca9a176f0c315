"""``resight train``: from a data set to a sealed Run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resight.commands import auto
from resight.commands.extras import need
from resight.commands.resume import finish
from resight.commands.start import start
from resight.errors import UsageError
from resight.runs import Run, check_free


def train(
    data: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    teacher: str | Path | None = None,
    balance: str | None = None,
    from_run: str | Path | None = None,
    keep_absent: bool = False,
    recipe: str | None = None,
    epochs: float | None = None,
    budget: str | float | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    batch: int | str | None = None,
    memory: str | float | None = None,
    lr: float | None = None,
    freeze: str | None = None,
    layer_decay: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    split: str | Path | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> Run:
    """Trains a classifier on a data set and returns its sealed Run.

    data: a folder of classes, split folders, a CSV, idx or CIFAR binary files. model: a name, or ``"auto"``: what
    ``advise`` says of these data, this machine and the budget; what it predicted is kept in the Run. from_run: a Run to
    continue with new classes or new pictures; keep_absent: also its classes that have no pictures here
    (docs/continue.md). teacher: a sealed Run of the same classes, to learn from beside the labels. balance: what is
    done about classes of different size: ``none``, ``weights``, ``sampling``, ``logit`` or ``focal``. budget: ``"20m"``
    or seconds, instead of epochs. channels: of the pictures, by default decided by the files (docs/channels.md). batch:
    pictures in one update, or ``"auto"``: the recipe's, with the micro-batch chosen by the memory there is. memory:
    ``"8G"`` or bytes, the most that training may take (docs/deeper.md). freeze: the
    deepest part whose weights stay as they are, ``"stem"``, ``"stage1"`` … or ``"backbone"``. layer_decay: the rate of
    each stage, as a share of the next one's. split: a Run or a split.csv: which picture is train, val, test or left
    out, exactly as there. out: the Run's directory, by default ``runs/DATA-MODEL-N``. set: any field of
    :class:`resight.recipes.TrainConfig` by its dotted name.

    Raises UsageError, DataError (before anything is written), TrainingError, Interrupted.
    """
    if keep_absent and from_run is None:
        raise UsageError("--keep-absent is about the classes of a Run that is continued", hint="add --from RUN")
    need("training", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")  # the last two: report.html
    from resight.recipes import balance_wishes
    from resight.recipes.options import wishes_of
    from resight.training import continuing
    from resight.training.distributed import broadcast_path, is_main
    from resight.training.progress import reporter

    if epochs is not None and budget is not None:
        raise UsageError("--epochs and --budget exclude each other: one of them says how long to train")
    options = {
        "model": model,
        "weights": weights,
        "teacher": teacher,
        "recipe": recipe,
        "epochs": epochs,
        "image_size": image_size,
        "channels": channels,
        "batch": None if batch in (None, "auto") else _whole("batch", batch),
        "lr": lr,
        "freeze": freeze,
        "layer_decay": layer_decay,
        "seed": seed,
        "device": device,
        "precision": precision,
        "workers": workers,
        "skip_bad": skip_bad,
    }
    settings: dict[str, Any] = {"auto_batch": True} if batch == "auto" else {}
    settings |= {} if budget is None else {"budget_seconds": seconds_of(budget)}
    settings |= {} if memory is None else {"memory_gb": bytes_of(memory) / 2**30}
    wishes, recipe = wishes_of(options, settings | dict(set or {}))
    if balance is not None:
        wishes |= balance_wishes(balance, wishes)
    if split is not None and from_run is not None:
        raise UsageError("--split and --from exclude each other: pictures of the Run stay in their parts")
    report, run_path = reporter(is_main()), None
    if is_main():
        base = None if from_run is None else continuing.open_base(from_run, keep_absent, rebalance=balance is not None)
        wishes = wishes if base is None else base.wishes(wishes)
        if out is not None:
            check_free(Path(out))  # before any time is spent
        advice = None
        if wishes.get("model.name") == auto.AUTO:
            if split is not None:
                raise UsageError(
                    "--model auto would look at a split that is drawn anew, not at the one of --split",
                    hint="run resight advise first, and name the --model",
                )
            wishes, advice = auto.resolve(data, wishes, recipe, report.say, scratch=str(weights) == "none")
        begun = auto.now()
        run_path = start(data, wishes, recipe, out, report.say, split, base).path
        if advice:
            auto.note(run_path, advice, begun)
    return finish(broadcast_path(run_path), report)


def seconds_of(budget: str | float) -> float:
    """``"90s"``, ``"20m"``, ``"1.5h"`` or plain seconds. Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smh]?)\s*", str(budget))
    if not match or float(match[1]) <= 0:
        raise UsageError(f"the budget {budget!r} is not a duration", hint="for example 90s, 20m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def bytes_of(memory: str | float) -> float:
    """``"8G"``, ``"800M"`` (powers of 1024, also written GiB), ``"8GB"`` (of 1000) or plain bytes. Raises UsageError
    for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(ib|b|)\s*", str(memory), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UsageError(f"the memory {memory!r} is not a size", hint="for example 8G or 800M")
    base = 1000 if match[2] and match[3].lower() == "b" else 1024
    return float(match[1]) * float(base ** " kmgt".index(match[2].lower() or " "))


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"--{name} must be a whole number or 'auto', not {value!r}") from None
