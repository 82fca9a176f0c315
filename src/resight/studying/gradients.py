"""Gradient norms by layer along a training: looked at from outside, by hooks that only read.

The updates are the training's own: nothing is computed for this but norms, nothing is drawn, and the weights come out
the same to the bit as without.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from resight.errors import RunError
from resight.images import printable
from resight.runs.plain_json import read_json
from resight.runs.storage import write_atomic
from resight.studying.layers import convolutions

if TYPE_CHECKING:
    from resight.training.fit import Training
    from resight.training.progress import Lines, Silent

LOOKS = 16
_AGAIN = "restore it; or remove it and the Run of that name, to train it again"


def looked_at(total: int, count: int = LOOKS) -> list[int]:
    """Updates, 1 … total, whose gradients are kept: the first, the last, between them evenly on a logarithmic scale."""
    return sorted({int(step) for step in np.geomspace(1, max(1, total), count).round()})


class GradientWatch:
    """Passes a training on to ``report``, and keeps gradient norms in ``path``.

    The file: ``layers``, names of convolutions in order; ``gradients``: by the number of the update, from 1, the L2
    norm of the loss's gradient with respect to each layer's weights, before clipping; ``weights``: the L2 norm of the
    weights then. Written after each such update, so before the next checkpoint: a resumed training finds the file, and
    writes equal numbers again.
    """

    def __init__(self, report: Silent | Lines, path: Path) -> None:
        self.report, self.path = report, path
        self.writes = report.writes
        self.training: weakref.ref[Training] | None = None  # memory that ran out is to be free before the next attempt
        self.at: frozenset[int] = frozenset()
        self.content: dict[str, Any] = read_measured(path)
        self.found: dict[str, tuple[float, float]] = {}

    def attach(self, training: Training) -> None:
        """Hooks on the weights of the convolutions. With several micro-batches the last call sees the whole sum."""
        self.training, self.at = weakref.ref(training), frozenset(looked_at(training.config.total_steps))
        layers = convolutions(training.net)
        self.content.setdefault("layers", list(layers))
        for name, layer in layers.items():
            layer.weight.register_post_accumulate_grad_hook(self._hook(name))  # type: ignore[no-untyped-call]

    def _hook(self, name: str) -> Any:
        def hook(weight: Tensor) -> None:
            training = self.training() if self.training is not None else None
            if training is None or training.state.step + 1 not in self.at or weight.grad is None:
                return
            scaler = training.scaler
            scale = scaler.get_scale() if scaler is not None else 1.0  # fp16: the loss was multiplied by it
            self.found[name] = float(weight.grad.norm()) / scale, float(weight.detach().norm())

        return hook

    def start(self, done: int, total: int, batch: int) -> None:
        self.report.start(done, total, batch)

    def step(self, done: int, loss: float, rate: float) -> None:
        if done in self.at:
            names: Sequence[str] = self.content["layers"]
            for key, part in (("gradients", 0), ("weights", 1)):
                row = [_finite(self.found[name][part]) for name in names]
                self.content.setdefault(key, {})[str(done)] = row
            write_measured(self.path, self.content)
        self.report.step(done, loss, rate)

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        self.report.epoch(entry, best)

    def say(self, text: str) -> None:
        """Lines, not the tables of several lines that a training ends with: a study has its own."""
        if "\n" not in text.strip():
            self.report.say(text.strip())

    def close(self) -> None:
        self.report.close()


def _finite(value: float) -> float | None:
    """JSON has no infinity; a norm that is none, of a training that diverges, is written as null."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def read_measured(path: Path) -> dict[str, Any]:
    """What was measured of a member so far; nothing, of one that has not begun. Raises RunError for what is none."""
    try:
        found = read_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{printable(str(path))} cannot be read: {error}", hint=_AGAIN) from error
    if not isinstance(found, dict):
        raise RunError(f"{printable(str(path))} is no JSON object", hint=_AGAIN)
    return found


def write_measured(path: Path, content: dict[str, Any]) -> None:
    """Atomically. Raises StorageError."""
    write_atomic(path, (json.dumps(content, allow_nan=False) + "\n").encode())
