"""A small ladder: ResNet-20 with a tiny stem, at 28 px."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resight.commands.train import train
from resight.runs import HISTORY, Run

OPTIONS: dict[str, Any] = {"model": "resnet20", "image_size": 28, "workers": 0, "device": "cpu"}
SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "threads": 1}
BY_VALIDATION: dict[str, Any] = {**SETTINGS, "batch": 16, "optimizer.lr": 1e-3, "transfer.folds": 0}
SHORT: dict[str, Any] = {**BY_VALIDATION, "total_steps": 4}


def climb(data: Path, weights: Path, out: Path, settings: dict[str, Any] | None = None, **options: Any) -> Run:
    return train(data, weights=weights, out=out, set=SHORT if settings is None else settings, **OPTIONS | options)


def history(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
