"""What a class activation map costs beside the answer: one picture, features asked for with the probabilities.

    python benchmarks/cam_cost.py [--rounds 5] [--questions 60]

Question by question in turn: the answer (probabilities alone), the answer with ``features``, and the map of these.
ResNet-18 and -50 at 224 px and ResNet-20 at 32 px with untrained weights: cost does not depend on them. Two threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from common import interleave, row, save

CASES = {"resnet18": 224, "resnet50": 224, "resnet20": 32}
TARGET = 20.0


def make_run(model: str, size: int, path: Path) -> None:
    import torch

    from resight.exporting.seal import write_model
    from resight.images import Geometry
    from resight.models import create
    from resight.runs import Architecture, Run, RunCard

    torch.manual_seed(0)
    classes = tuple(str(k) for k in range(10 if size == 32 else 1000))
    card = RunCard(
        Architecture(model), classes, 3, Geometry("crop", size, size), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    run = Run.create(path, card)
    write_model(run, create(model, num_classes=len(classes)), 1.0)
    run.seal()


def once(folder: Path, questions: int) -> dict[str, float]:
    """Median milliseconds of the answer, of the answer with features, and of the map."""
    from resight.explaining import class_activation, head_weights
    from resight.inference import Predictor
    from resight.runs import Run

    run = Run.open(folder)
    predictor, weights = Predictor(run, backend="onnxruntime", threads=2, pictures=1), head_weights(run)
    size = run.card.geometry.size
    square = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {"answer": [], "with features": [], "map": []}
    for number in range(questions + 3):
        a = time.perf_counter()
        predictor.ask(square, ("probabilities",))
        b = time.perf_counter()
        probabilities, features = predictor.ask(square, ("probabilities", "features"))
        c = time.perf_counter()
        class_activation(features, weights[probabilities.argmax(axis=1)])
        d = time.perf_counter()
        if number >= 3:
            for name, seconds in zip(times, (b - a, c - b, d - c), strict=True):
                times[name].append(1000 * seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=60, help="pictures asked for in a round")
    parser.add_argument("--side", metavar="FOLDER", help="used by the program itself")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(once(Path(args.side), args.questions)))
        return
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for model, size in CASES.items():
            make_run(model, size, Path(folder) / model)
        sides = {m: [__file__, "--side", Path(folder) / m, "--questions", str(args.questions)] for m in CASES}
        for model, results in interleave(sides, args.rounds).items():
            times = {name: [r[name] for r in results] for name in results[0]}
            rows.append(
                row(
                    f"{model}, {CASES[model]} px",
                    ("the map", times["map"]),
                    ("the answer", times["answer"]),
                    unit="ms",
                    target=TARGET,
                    equal="",
                    more_is_better=False,
                )
            )
            share = statistics.median(m / a for m, a in zip(times["map"], times["answer"], strict=True))
            more = statistics.median(f / a - 1 for f, a in zip(times["with features"], times["answer"], strict=True))
            notes.append(f"{model}: the map takes {share:.2%} of the answer; asking for features too, {more:+.1%}")
    save(
        "cam-cost",
        title="Explanations: what a class activation map costs",
        target="",
        command="python benchmarks/cam_cost.py",
        rows=rows,
        notes=["At most 5 % of the answer is a ratio of at least 20.", *notes],
        threads=2,
    )


if __name__ == "__main__":
    main()
