"""Any number of labels, end to end, on a composed set: mAP, thresholds, one answer from PyTorch, ONNX and `predict`.

    python benchmarks/multilabel.py FASHION_MNIST --work FOLDER [--epochs 6] [--seed 0]

FASHION_MNIST: its four idx files. Each picture is a mosaic of 2 × 2 places of 28 px; a place holds a garment with
probability 0.5, else dark noise, so a picture has 0 to 4 garments and its labels are the set of their classes. Class k
of ten is drawn with a weight of 0.75^k: labels are on 5 to 45 % of the pictures. 4,000 mosaics to train and 1,000 to
validate are made of disjoint garments of the 60,000, 1,500 to test of the 10,000; no garment is used twice. Training
is the default recipe, ResNet-20 at 56 px, with one thread.

Writes FOLDER/set (the pictures and mosaics.csv), FOLDER/run, FOLDER/report.html and FOLDER/answers.csv, all anew, and
benchmarks/results/multilabel/mosaics.json. The three ways are compared on all test pictures: the network in PyTorch on
the decoded squares; ``model.onnx`` as `resight eval` asks it; the CSV that `resight predict` writes for the files.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from common import RESULTS, machine

SIDE, PLACES, FILLED, FALL, DARK = 28, 4, 0.5, 0.75, 48
NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PARTS = {"train": 4000, "val": 1000, "test": 1500}
HELD_BACK = 0.15  # of the training garments, for validation


def compose(source: Path, folder: Path, seed: int) -> Path:
    """The mosaics as PNG files, and their table: path, labels, split."""
    from resight.samples import load
    from resight.samples.cells import join

    garments = load(source)
    random = np.random.default_rng(seed)
    pool = {part: {k: [] for k in range(len(garments.classes))} for part in PARTS}
    for sample in garments.samples:
        part = "test" if sample.split == "test" else "val" if random.random() < HELD_BACK else "train"
        pool[part][sample.label].append(sample)
    weights = FALL ** np.arange(len(garments.classes))
    rows = []
    for part, count in PARTS.items():
        (folder / part).mkdir(parents=True)
        for number in range(count):
            mosaic, labels = random.integers(0, DARK, (2 * SIDE, 2 * SIDE), np.uint8), set()
            for place in range(PLACES):
                if random.random() >= FILLED:
                    continue
                k = int(random.choice(len(weights), p=weights / weights.sum()))
                top, left = (SIDE * step for step in divmod(place, 2))
                own = pool[part][k]
                mosaic[top : top + SIDE, left : left + SIDE] = garments.read(own.pop(random.integers(len(own))), 1)[
                    ..., 0
                ]
                labels.add(k)
            name = f"{part}/{number:05d}.png"
            Image.fromarray(mosaic).save(folder / name)
            rows.append([name, join(NAMES[int(garments.classes[k])] for k in sorted(labels)), part])
    table = folder / "mosaics.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "labels", "split"], *rows])
    return table


def in_pytorch(run, samples, indices) -> np.ndarray:
    """Probabilities (N, K) of the network of model.safetensors, sigmoid(logits / temperature)."""
    import torch

    from resight.attribution import load_network

    net, geometry = load_network(run), run.card.geometry
    parts = []
    for start in range(0, len(indices), 100):
        chosen = (samples.samples[i] for i in indices[start : start + 100])
        squares = np.stack(
            [geometry.apply(samples.read(sample, run.card.channels, geometry=geometry)) for sample in chosen]
        )
        with torch.inference_mode():
            logits = net(torch.from_numpy(squares).permute(0, 3, 1, 2).float())
        parts.append(torch.sigmoid(logits / run.card.temperature).numpy())
    return np.concatenate(parts)


def written(path: Path, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Of each picture in the CSV of `predict`, by name: all probabilities (K,), and the labels."""
    from resight.samples.cells import split

    chances, labels = {}, {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = "/".join(Path(row["source"]).parts[-2:])
            found = {row[f"class_{k}"]: float(row[f"p_{k}"]) for k in range(1, len(names) + 1)}
            chances[key] = np.array([found[name] for name in names])
            labels[key] = split(row["labels"])
    return chances, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    import resight
    from resight.commands.eval import evaluate_run, load_own

    for name in ("set", "run"):
        shutil.rmtree(asked.work / name, ignore_errors=True)
    table = compose(asked.fashion, asked.work / "set", asked.seed)
    started = time.perf_counter()
    settings = {"threads": 1, "data.workers": 1}
    where = asked.work / "run"
    run = resight.train(table, model="resnet20", epochs=asked.epochs, seed=asked.seed, out=where, set=settings)
    seconds = time.perf_counter() - started

    result = evaluate_run(run, report=asked.work / "report.html", backend="onnxruntime", threads=1)
    files = sorted((table.parent / "test").iterdir())
    answers = asked.work / "answers.csv"
    resight.predict(run, files, top=len(run.classes), backend="onnxruntime", threads=1).to_csv(answers)
    samples = load_own(run)
    indices = [i for i, sample in enumerate(samples.samples) if sample.split == "test"]
    torch_says = in_pytorch(run, samples, indices)
    chances, labels = written(answers, run.classes)
    file_says = np.stack([chances[source] for source in result.sources])
    given = [{run.classes[k] for k in np.flatnonzero(row)} for row in result.predicted]
    same = sum(set(labels[source]) == own for source, own in zip(result.sources, given, strict=True))
    found = result.evaluation
    report = {
        "machine": machine(1),
        "set": {"seed": asked.seed, "pictures": PARTS, "classes": list(run.classes)},
        "training": {"seconds": round(seconds), "epochs": len((run.path / "metrics.jsonl").read_text().splitlines())},
        "temperature": run.card.temperature,
        "base_rate": found.base_rate,
        "metrics": {name: [e.value, e.low, e.high] for name, e in found.metrics.items()},
        "uncalibrated": {name: [e.value, e.low, e.high] for name, e in found.uncalibrated.items()},
        "at_half": at_half(result),
        "per_class": {
            each.name: {
                "support": each.support,
                "threshold": threshold.value,
                "validation_positives": threshold.positives,
                "average_precision": None if each.average_precision is None else each.average_precision.value,
                "f1": None if each.f1 is None else each.f1.value,
            }
            for each, threshold in zip(found.per_class, run.card.thresholds, strict=True)
        },
        "same_answer": {
            "pictures": len(indices),
            "pytorch_against_onnx": float(np.abs(torch_says - result.probabilities).max()),
            "predict_against_eval": float(np.abs(file_says - result.probabilities).max()),
            "pictures_with_the_same_labels": same,
        },
    }
    place = RESULTS / "multilabel" / "mosaics.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(found.to_text())
    print(json.dumps(report["same_answer"], indent=1))
    if report["same_answer"]["pytorch_against_onnx"] > 1e-4 or same < len(indices):
        sys.exit("the three ways do not answer the same")


def at_half(result) -> dict[str, float]:
    """F1 were every threshold 0.5: what fitting them is worth."""
    from resight.evaluation.multilabel.counting import counting_metrics

    half = counting_metrics(result.probabilities >= 0.5, result.targets.astype(bool))
    return {name: half[name].value for name in ("macro_f1", "micro_f1", "subset_accuracy")}


if __name__ == "__main__":
    main()
