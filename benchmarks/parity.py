"""One Run, three ways to its answers: PyTorch, ONNX Runtime, and the CSV that ``resight predict`` writes.

    python benchmarks/parity.py RUN PICTURES…

Prints the largest and the mean difference in probability between each pair of ways, and how often they agree on the
best class, over all pictures. Exits with 1 where they differ by more than the project allows (1e-4).
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from resight.evaluation import compare
from resight.exporting.onnx import Answering
from resight.images import decode_for
from resight.inference import Predictor, unescape_cell
from resight.models import create
from resight.runs import WEIGHTS, Run
from resight.samples import find_images


def by_torch(run: Run, pixels: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of the network itself, from the Run's weights."""
    card = run.card
    net = create(
        card.architecture.name,
        num_classes=len(card.classes),
        in_channels=card.channels,
        **card.architecture.options,
    )
    net.load_state_dict(load_file(run.file(WEIGHTS)))
    answering = Answering(net, card.mean, card.std, card.temperature)
    with torch.inference_mode():
        return np.concatenate([answering(part)[0].numpy() for part in torch.from_numpy(pixels).split(32)])


def by_predict(run: Run, pictures: list[Path]) -> np.ndarray:
    """Probabilities (N, K) as the command writes them, every class asked for."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.csv"
        command = ["predict", str(run.path), *map(str, pictures), "--format", "csv", "--out", str(out)]
        command += ["--top", str(len(run.classes))]
        subprocess.run([sys.executable, "-m", "resight.cli", *command], check=True)
        with out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    answers = np.zeros((len(rows), len(run.classes)))
    for number, row in enumerate(rows):
        for place in range(1, len(run.classes) + 1):
            answers[number, run.classes.index(unescape_cell(row[f"class_{place}"]))] = float(row[f"p_{place}"])
    return answers


def main() -> None:
    run, pictures = Run.open(sys.argv[1]), find_images(sys.argv[2:])
    card = run.card
    pixels = np.stack(
        [card.geometry.apply(decode_for(card.geometry, path, channels=card.channels)) for path in pictures]
    )
    answers = {
        "PyTorch": by_torch(run, pixels),
        "ONNX": Predictor(run).run_pixels(pixels).probabilities,
        "predict": by_predict(run, pictures),
    }
    passed = True
    for one, other in (("PyTorch", "ONNX"), ("PyTorch", "predict"), ("ONNX", "predict")):
        parity = compare(answers[one], answers[other])
        passed = passed and parity.passed
        print(
            f"{one} and {other}: n {parity.n}, decided {parity.decided}, same best class "
            f"{100 * parity.top1_agreement:.2f} % of them, |Δp| max {parity.max_abs:.2g}, mean {parity.mean_abs:.2g}"
        )
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
