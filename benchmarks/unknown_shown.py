"""'Unknown' as it is shown: Runs on Fashion-MNIST against digits, grey CIFAR pictures and noise; a near one beside.

    python benchmarks/unknown_shown.py --fashion RUN… --cifar FOLDER [--near RUN=FOLDER] --scratch FOLDER

The score, its k and what the threshold keeps were fixed by ``unknown.py`` before these sets were looked at. A Run that
was sealed without a reference is copied to ``--scratch`` and sealed again there with ``exporting.seal``'s own
``write_reference``; the Run itself is not changed. For each set: AUROC against the Run's whole test part
(scikit-learn's), and the share that is called unknown. Targets: AUROC ≥ 0.95 on each of the three kinds, false alarms
5 ± 1 % on the test part. Result: benchmarks/results/unknown/shown.json; Runs that are not
named keep what it has of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from common import machine
from unknown import FOLDER, quality

NOISE, CIFAR, SEED = 1000, 2000, 0
RESULT = FOLDER / "shown.json"
FAR = 0.95, (0.04, 0.06)


def with_reference(path: Path, scratch: Path) -> Path:
    """The Run, or where it has no reference a copy that has one."""
    from resight import Predictor, Run
    from resight.commands.eval import load_own
    from resight.exporting.seal import write_reference
    from resight.runs.run import SEALED_FILES

    run = Run.open(path)
    if run.card.unknown:
        return path
    copy = scratch / path.name
    copy.mkdir(parents=True)
    for name in SEALED_FILES:
        if run.records(name):
            shutil.copyfile(path / name, copy / name)
    made = Run(copy, replace(run.card, status="trained", files={}))
    write_reference(
        made, Predictor(made, backend="onnxruntime"), load_own(run), lambda text: print(text, file=sys.stderr)
    )
    made.seal()
    return copy


def digits() -> list[np.ndarray]:
    """scikit-learn's 1,797 handwritten digits, 8 × 8, bright on dark."""
    return list((load_digits().images * (255 / 16)).round().astype(np.uint8))


def noise(side: int) -> dict[str, list[np.ndarray]]:
    """Grey noise of each pixel, uniform, and normal about mid-grey; blank pictures of each of the 256 levels."""
    random = np.random.default_rng(SEED)
    normal = np.clip(random.normal(128, 64, (NOISE, side, side)), 0, 255).astype(np.uint8)
    return {
        "noise, uniform": list(random.integers(0, 256, (NOISE, side, side), dtype=np.uint8)),
        "noise, normal": list(normal),
        "blank, all levels": [np.full((side, side), level, np.uint8) for level in range(256)],
    }


def grey_photos(folder: Path) -> list[np.ndarray]:
    """Grey pictures of a data set's test part."""
    from resight import load

    samples = load(folder, val_fraction=0, training=False)
    test = [sample for sample in samples.samples if sample.split == "test"]
    chosen = np.random.default_rng(SEED).permutation(len(test))[:CIFAR]
    return [samples.read(test[i], 1) for i in chosen]


def shown(path: Path, sets: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """One Run against each set."""
    from resight import Predictor, Run
    from resight.commands.eval import load_own
    from resight.evaluation import wilson

    run = Run.open(path)
    samples, predictor = load_own(run), Predictor(run, backend="onnxruntime")
    test = [i for i, sample in enumerate(samples.samples) if sample.split == "test"]
    answers = predictor.answers(samples, test)
    inside, right = answers.unlike, answers.logits.argmax(axis=1) == [samples.samples[i].label for i in answers.indices]
    assert predictor.unknowns is not None
    assert inside is not None
    limit = predictor.unknowns.threshold
    rows: dict[str, Any] = {}
    for name, pictures in sets.items():
        found = list(predictor.predict(pictures, 1))
        scores = np.array([answer.score.value for answer in found if answer.score is not None])
        rows[name] = quality(inside, scores) | {"n": len(scores), "called": float((scores > limit).mean())}
        print(f"  {name:20} {rows[name]}", file=sys.stderr)
    called = wilson(int((inside > limit).sum()), len(inside))
    alarms = {"value": called.value, "low": called.low, "high": called.high, "n": len(inside)}
    print(f"  false alarms {alarms}", file=sys.stderr)
    return {"accuracy": float(right.mean()), "unknown": run.card.unknown, "false_alarms": alarms, "sets": rows}


def main() -> None:
    from resight.images import decode
    from resight.samples import find_images

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--near", metavar="RUN=FOLDER")
    parser.add_argument("--scratch", type=Path, required=True)
    args = parser.parse_args()
    sets = {"digits": digits(), "CIFAR-10, grey": grey_photos(args.cifar)} | noise(28)
    runs = {}
    for path in args.fashion:
        print(path, file=sys.stderr)
        runs[path.name] = shown(with_reference(path, args.scratch), sets)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {"runs": {}, "near": {}}
    runs = kept["runs"] | runs
    near: dict[str, Any] = kept["near"]
    if args.near:
        path, _, folder = args.near.partition("=")
        pictures = {"classes left out": [decode(picture) for picture in find_images([folder])]}
        near |= {Path(path).name: shown(with_reference(Path(path), args.scratch), pictures)}
    result = {"machine": machine(), "runs": runs, "reached": reached(runs), "near": near}
    FOLDER.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result["reached"], indent=1))


def reached(runs: dict[str, Any]) -> dict[str, dict[str, bool]]:
    least, (low, high) = FAR
    return {
        name: {kind: found["auroc"] >= least for kind, found in run["sets"].items()}
        | {"false alarms": low <= run["false_alarms"]["value"] <= high}
        for name, run in runs.items()
    }


if __name__ == "__main__":
    main()
