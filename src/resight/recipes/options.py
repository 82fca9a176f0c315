"""Options of the command line and the fields that they set: one table, read both ways."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resight.errors import UsageError
from resight.images import printable
from resight.recipes.pretraining import refuse_pretraining

# Of `resight train`, `resight tune` and `resight lr-find` alike; what `resight advise` and `tune` say to type.
FIELDS = {
    "model": "model.name",
    "weights": "model.weights",
    "teacher": "distill.teacher",
    "epochs": "epochs",
    "image_size": "data.image_size",
    "channels": "data.channels",
    "batch": "batch",
    "lr": "optimizer.lr",
    "freeze": "model.freeze",
    "layer_decay": "optimizer.layer_decay",
    "seed": "seed",
    "device": "device",
    "precision": "precision",
    "workers": "data.workers",
    "skip_bad": "data.skip_bad",
}


def weights_path(weights: str | Path) -> str:
    """Weights as they are named, a path that exists as an absolute one: whoever resumes may stand elsewhere."""
    return str(Path(weights).resolve()) if Path(weights).exists() else str(weights)


def wishes_of(options: Mapping[str, Any], settings: Mapping[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """Dotted fields from options (None, or False: not given) and ``--set``; and the recipe, where either names one.

    Raises UsageError for an option that does not exist, and for ``data.path``.
    """
    if unknown := options.keys() - FIELDS.keys() - {"recipe"}:
        raise UsageError(f"there is no option '{min(unknown)}'", hint=f"options: recipe, {', '.join(FIELDS)}")
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    if str(given.get("weights")) in ("none", ""):
        del given["weights"]
    if "weights" in given:
        given["weights"] = weights_path(given["weights"])
    if "teacher" in given:
        given["teacher"] = str(given["teacher"])
    wishes = {FIELDS[name]: value for name, value in given.items() if name != "recipe"} | dict(settings or {})
    recipe = wishes.pop("recipe", given.get("recipe"))
    refuse_pretraining(wishes)
    if "data.path" in wishes:
        raise UsageError("data.path is the data set to train on, not an option")
    return wishes, recipe


def train_command(data: str, recipe: str | None, wishes: Mapping[str, Any]) -> str:
    """The ``resight train`` that trains with exactly these wishes, for a shell and safe to print."""
    words = ["resight", "train", data, *(("--recipe", recipe) if recipe else ())]
    names = {field: name for name, field in FIELDS.items()}
    for field, value in wishes.items():
        if field == "data.skip_bad":
            words += ["--skip-bad"] if value in (True, "true") else []
        elif field in names:
            words += ["--" + names[field].replace("_", "-"), text_of(value)]
        else:
            words += ["--set", f"{field}={text_of(value)}"]
    return shlex.join(printable(word, 2000) for word in words)


def text_of(value: Any) -> str:
    """As ``--set`` reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
