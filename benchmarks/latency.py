"""P3: one picture at a time, fp32: a Run through each backend against torchvision's network in eager PyTorch, NCHW.

    python benchmarks/latency.py [--rounds 5] [--questions 40]

From a uint8 square of 224 px to probabilities, normalisation included, two threads on all sides; start-up is not
measured. ResNet-18 and -50 with untrained weights, the same on all sides; answers are compared first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import answering
from common import PEERS, interleave, measure, row, save

BACKENDS = ("onnxruntime", "openvino")
TARGET, NEAR = 1.8, 1e-4
Ask = Callable[[np.ndarray], np.ndarray]


def squares(count: int) -> np.ndarray:
    """uint8 (N, 1, 224, 224, 3) of coarse noise."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, 1, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=2).repeat(16, axis=3)


def with_torch(model: str, folder: Path, threads: int) -> Ask:
    import torch

    net = answering.torch_net(model, folder / answering.WEIGHTS, threads)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def ask(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
            return net((floats - mean) / std).softmax(1).numpy()

    return ask


def with_backend(name: str, folder: Path, threads: int) -> Ask:
    from resight.inference import Predictor
    from resight.runs import Run

    predictor = Predictor(Run.open(folder / "run"), backend=name, threads=threads, pictures=1)
    return lambda pixels: predictor.ask(pixels, ("probabilities",))[0]


def once(side: str, model: str, folder: Path, threads: int, questions: int) -> dict[str, object]:
    """Median milliseconds of an answer, and the answers for the first eight pictures."""
    ask = with_torch(model, folder, threads) if side == "torch" else with_backend(side, folder, threads)
    pictures = squares(8)
    answers = [ask(picture)[0].tolist() for picture in pictures]  # it is warm from here on
    times = []
    for number in range(questions):
        start = time.perf_counter()
        ask(pictures[number % 8])
        times.append(time.perf_counter() - start)
    return {"milliseconds": 1000 * statistics.median(times), "answers": answers if questions == 1 else []}


def compare(model: str, folder: Path, threads: int) -> str:
    """Exits when the sides do not answer equally; otherwise says how equally they do."""
    answers = {}
    for side in ("torch", *BACKENDS):
        command = [__file__, "--side", side, model, folder, "--threads", str(threads), "--questions", "1"]
        answers[side] = np.array(measure(command, python=PEERS if side == "torch" else sys.executable)["answers"])
    worst = max(float(np.abs(answers["torch"] - answers[name]).max()) for name in BACKENDS)
    if worst > NEAR:
        sys.exit(f"the sides answer differently: by {worst} in probability")
    return f"8 pictures on all sides: |Δp| ≤ {worst:.1g}, largest p {answers['torch'].max():.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=40, help="pictures asked for in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "MODEL", "FOLDER"), help="used by the program itself")
    args = parser.parse_args()
    if args.side:
        side, model, place = args.side
        print(json.dumps(once(side, model, Path(place), args.threads, args.questions)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in answering.MODELS:
            place = Path(folder) / model
            answering.make_run(model, place)
            equal = compare(model, place, args.threads)
            options = ["--threads", str(args.threads), "--questions", str(args.questions)]
            sides = {side: [__file__, "--side", side, model, place, *options] for side in ("torch", *BACKENDS)}
            found = interleave(sides, args.rounds, pythons={"torch": PEERS})
            times = {side: [r["milliseconds"] for r in results] for side, results in found.items()}
            best = min(BACKENDS, key=lambda name: statistics.median(times[name]))
            for name in BACKENDS:
                rows.append(
                    row(
                        f"{model}, {name}",
                        (f"resight, {name}", times[name]),
                        ("torch, eager NCHW", times["torch"]),
                        unit="ms",
                        target=TARGET if name == best else None,
                        equal=equal,
                        more_is_better=False,
                    )
                )
    save(
        "P3-latency",
        title="One picture at a time",
        target="P3",
        command="python benchmarks/latency.py",
        rows=rows,
        notes=["The target is for the quicker backend of each network, which `--backend auto` takes once measured."],
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
