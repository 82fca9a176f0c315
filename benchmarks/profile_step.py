"""Where the time of one training step goes, and what keeping memory changes: milliseconds and page faults by part.

    python benchmarks/profile_step.py [--model resnet20] [--rounds 5]

Takes real updates of ``Training.update``, with its parts wrapped in clocks; nothing is written again for measuring.
The parts of a step: waiting for the batch, augmentation, normalisation, forward (to the logits), backward, optimizer,
averaging, and bookkeeping, which is what remains (rate, loss, counts). Both sides are the same step, one with glibc's
own allocator settings and one with ``machine.keep_memory()``; a page fault is one page that the system had to give.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

import steps
from common import interleave, row, save
from resight.training import objective
from resight.training.fit import Training

CASES = {"resnet18": (224, 32, 1000, 5), "resnet20": (32, 128, 10, 20)}
"""Side, batch, classes and timed steps of each network."""
WARM = 2
PARTS = ("waiting", "augmentation", "normalisation", "forward", "backward", "optimizer", "averaging", "bookkeeping")


class Parts:
    """Seconds by part, and functions that are clocked as they are called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def clocked(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return call

    def watch(self, training: Training) -> None:
        """Wraps what ``Training.update`` and ``Supervised.forward`` call."""
        objective.apply = self.clocked("augmentation", objective.apply)  # type: ignore[assignment]
        normalize, net = training.objective.normalize, training.objective.net
        normalize.forward = self.clocked("normalisation", normalize.forward)  # type: ignore[method-assign]
        net.forward = self.clocked("forward", net.forward)  # type: ignore[method-assign]
        training.accelerator.backward = self.clocked("backward", training.accelerator.backward)
        training.stepper.step = self.clocked("optimizer", training.stepper.step)
        training.stepper.zero_grad = self.clocked("optimizer", training.stepper.zero_grad)
        if training.average:
            training.average.update = self.clocked("averaging", training.average.update)  # type: ignore[method-assign]


def profile(model: str, keep_memory: bool) -> dict[str, float]:
    """Medians over the timed steps: milliseconds of each part and of all, and page faults."""
    size, batch, classes, timed = CASES[model]
    steps.use_machine(keep_memory=keep_memory)
    training = steps.training(steps.configure(model, size, batch, "quick", classes), classes)
    parts, found = Parts(), []
    parts.watch(training)
    batches = training.loader.batches(0, WARM + timed)
    for _ in range(WARM + timed):
        parts.seconds.clear()
        faults, start = page_faults(), time.perf_counter()
        ready = parts.clocked("waiting", next)(batches)
        training.update(ready)
        total = time.perf_counter() - start
        parts.seconds["bookkeeping"] = total - sum(parts.seconds.values())
        values = {part: 1000 * parts.seconds[part] for part in PARTS}
        found.append(values | {"whole": 1000 * total, "faults": page_faults() - faults})
    return {name: float(np.median([values[name] for values in found[WARM:]])) for name in found[0]}


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def rows(model: str, found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    size, batch, *_ = CASES[model]

    def line(part: str, unit: str) -> dict[str, Any]:
        # At least a thousandth, so that a part that costs nothing has a ratio too.
        sides = {side: [max(1e-3, values[part]) for values in rounds] for side, rounds in found.items()}
        kept, returned = (("memory kept", sides["kept"]), ("memory returned", sides["returned"]))
        case = f"{model} at {size}, batch {batch}: {part}"
        return row(case, kept, returned, unit=unit, target=None, equal="", more_is_better=False)

    return [*(line(part, "ms") for part in (*PARTS, "whole")), line("faults", "page faults")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CASES, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=("kept", "returned"), help="run one side once (used by the program itself)")
    args = parser.parse_args()
    models = args.model or list(CASES)
    if args.side:
        print(json.dumps(profile(models[0], args.side == "kept")))
        return
    lines = []
    for model in models:
        sides = {side: [__file__, "--model", model, "--side", side] for side in ("returned", "kept")}
        lines += rows(model, interleave(sides, args.rounds))
    save(
        "profile-step",
        title="Where one training step's time goes",
        target="",
        command="python benchmarks/profile_step.py",
        rows=lines,
        notes=[
            "Recipe `quick` without growth on pictures of noise in memory, batches made ahead by the loader's threads. "
            "Both sides make the same step and differ in `machine.keep_memory()` alone.",
            "Forward ends at the logits. Bookkeeping is what remains of the step: the rate, the loss, the counts.",
        ],
    )


if __name__ == "__main__":
    main()
