"""A small int8 network of few pixels beside ResNet-50 in PyTorch at 224 px, one picture at a time, in turns.

    python benchmarks/eager_resnet50.py RUN [--artifact openvino-int8] [--rounds 15]

RUN: of single labels, with the artefact; its own graph and the artefact are asked for one decoded square of its size.
ResNet-50 has random weights, which take as long as any. One thread each. It says time and nothing of accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from common import machine


def main() -> None:
    import torch

    from resight.inference import Predictor
    from resight.models import create
    from resight.runs import Run

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--artifact", default="openvino-int8")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(args.run)
    net = create("resnet50", num_classes=10).eval().to(memory_format=torch.channels_last)
    image = torch.randn(1, 3, 224, 224).to(memory_format=torch.channels_last)
    side = run.card.geometry.size
    square = np.random.default_rng(0).integers(0, 256, (1, side, side, run.card.channels), np.uint8)

    def eager() -> None:
        with torch.inference_mode():
            net(image)

    def answering(predictor: Predictor) -> Callable[[], object]:
        return lambda: predictor.compute(square, ("probabilities",), alone=True)

    sides: dict[str, tuple[Callable[[], object], int]] = {"resnet50 at 224 px, PyTorch": (eager, 1)}
    name = f"{run.card.architecture.name} at {side} px"
    sides[f"{name}, fp32"] = answering(Predictor(run, threads=1)), 20
    sides[f"{name}, {args.artifact}"] = answering(Predictor(run, artifact=args.artifact, threads=1)), 20
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(args.rounds + 1):  # the first is left out
        for title, (ask, times) in sides.items():
            start = time.perf_counter()
            for _ in range(times):
                ask()
            taken[title].append((time.perf_counter() - start) / times)
    base, *_ = taken.values()
    found = {}
    for title, seconds in taken.items():
        ratios = [a / b for a, b in zip(base[1:], seconds[1:], strict=True)]
        found[title] = {"times as fast": median(ratios), "range": [min(ratios), max(ratios)]}
    print(json.dumps({"machine": machine(1), "sides": found}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
