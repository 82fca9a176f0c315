"""How to tell pictures unlike the training data: twelve scores, by AUROC and by the share that passes unnoticed.

    python benchmarks/unknown.py RUN=DATA[,near=FOLDER] … --out NAME=FOLDER … [--seed 0] [--name choice]

RUN is sealed, DATA what it was trained with (by the Run's split.csv where it has one, else split anew), near a folder
of classes that it never saw. ``--out``: folders of pictures that belong to none of its classes; generated stripes and
soft blobs are always among them. Each score is fitted on up to 4,096 training pictures and asked about up to 3,000 of
the test part and 1,000 of each other set; AUROC is scikit-learn's, FPR is the share of the others that are no more
unlike than 95 % of the test part. Results: benchmarks/results/unknown/NAME.json. What is shown in
``unknown_shown.py`` takes no part here: the score was chosen before that was looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from common import RESULTS, machine
from unknown_scores import SCORES, Training

FOLDER = RESULTS / "unknown"
TEST, OTHERS, GENERATED = 3000, 1000, 500
Squares = list[np.ndarray]


class Asker:
    """A Run's embedding and logits of pictures of any size, through its own geometry."""

    def __init__(self, path: Path) -> None:
        from resight import Predictor, Run

        self.run = Run.open(path)
        self.predictor = Predictor(self.run, backend="onnxruntime")

    def pictures(self, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, C) each → embedding (N, D), logits (N, K)."""
        return self._ask([self.predictor.square(picture) for picture in pictures])

    def samples(self, samples: Any, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        geometry, channels = self.run.card.geometry, self.run.card.channels
        return self._ask(
            [geometry.apply(samples.read(samples.samples[i], channels, geometry=geometry)) for i in indices]
        )

    def _ask(self, squares: Squares) -> tuple[np.ndarray, np.ndarray]:
        found = self.predictor.run_pixels(np.stack(squares))
        return found.embedding, found.logits


def own(asker: Asker, data: Path, seed: int) -> tuple[Training, tuple[np.ndarray, np.ndarray]]:
    """Up to 4,096 training pictures, all classes alike, and some of the test part."""
    from resight import load
    from resight.commands.eval import load_own, match_classes
    from resight.inference.unknown import balanced, bank_size

    samples = load_own(asker.run) if asker.run.records("split.csv") else load(data, seed=seed)
    numbers = np.array(match_classes(samples.classes, asker.run.classes)[0])
    train, test = (np.array([i for i, s in enumerate(samples.samples) if s.split == p]) for p in ("train", "test"))
    labels = numbers[[samples.samples[i].label for i in train]]
    chosen = balanced(labels, bank_size(64), seed)
    embeddings, logits = asker.samples(samples, train[chosen])
    test = np.random.default_rng(seed).permutation(test)[:TEST]
    return Training(embeddings, logits, labels[chosen]), asker.samples(samples, test)


def folder(asker: Asker, path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some pictures of a data set or of a folder without classes."""
    from resight import load
    from resight.errors import DataError
    from resight.images import decode
    from resight.samples import find_images

    try:
        samples = load(path, val_fraction=0, test_fraction=0, training=False)
    except DataError:
        chosen = np.random.default_rng(seed).permutation(np.array(find_images([path])))[:OTHERS]
        return asker.pictures([decode(picture) for picture in chosen])
    return asker.samples(samples, np.random.default_rng(seed).permutation(len(samples))[:OTHERS])


def stripes(count: int, side: int, seed: int) -> list[np.ndarray]:
    """Waves of one direction, frequency and two colours each."""
    random, (y, x) = np.random.default_rng(seed), np.mgrid[:side, :side] / side
    found = []
    for _ in range(count):
        angle, frequency, phase = random.uniform((0, 2, 0), (np.pi, 8, 2 * np.pi))
        wave = (1 + np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)) / 2
        dark, bright = random.uniform(0, 255, (2, 3))
        found.append((dark + (bright - dark) * wave[..., None]).astype(np.uint8))
    return found


def blobs(count: int, side: int, seed: int) -> list[np.ndarray]:
    """4 × 4 random colours, enlarged softly."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC)) for p in small]


def quality(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """AUROC, and the share of ``outside`` that is no more unlike than 95 % of ``inside``."""
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    passes = float((outside <= np.quantile(inside, 0.95)).mean())
    return {"auroc": float(roc_auc_score(truth, np.concatenate([inside, outside]))), "fpr95": passes}


def compare(asker: Asker, data: Path, sets: Mapping[str, Path], seed: int) -> dict[str, Any]:
    """For each score, its quality on each set."""
    side = asker.run.card.geometry.size
    training, test = own(asker, data, seed)
    others = {name: folder(asker, path, seed) for name, path in sets.items()}
    others["stripes"] = asker.pictures(stripes(GENERATED, side, seed + 1))
    others["blobs"] = asker.pictures(blobs(GENERATED, side, seed + 2))
    result: dict[str, Any] = {}
    for name, fit in SCORES.items():
        score: Callable[..., np.ndarray] = fit(training)
        inside = score(*test)
        result[name] = {other: quality(inside, score(*outside)) for other, outside in others.items()}
        print(f"  {name:22} {mean(result[name], 'auroc'):.4f}  {mean(result[name], 'fpr95'):.4f}", file=sys.stderr)
    sizes = {name: len(outside[0]) for name, outside in others.items()}
    return {"test": len(test[0]), "training": len(training.labels), "others": sizes, "scores": result}


def mean(found: Mapping[str, Mapping[str, float]], what: str) -> float:
    return float(np.mean([values[what] for values in found.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN=DATA[,near=FOLDER]")
    parser.add_argument("--out", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="choice", help="of the file with the results")
    args = parser.parse_args()
    outside = {name: Path(path) for name, _, path in (text.partition("=") for text in args.out)}
    runs: dict[str, Any] = {}
    for text in args.runs:
        path, _, rest = text.partition("=")
        data, _, near = rest.partition(",near=")
        print(path, file=sys.stderr)
        sets = {name: folder for name, folder in outside.items() if folder != Path(data)}
        sets |= {"near": Path(near)} if near else {}
        runs[Path(path).name] = compare(Asker(Path(path)), Path(data), sets, args.seed)
    means = {
        name: {
            what: float(np.mean([mean(run["scores"][name], what) for run in runs.values()]))
            for what in ("auroc", "fpr95")
        }
        for name in SCORES
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "seed": args.seed, "mean_of_runs": means, "runs": runs}
    (FOLDER / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, found in sorted(means.items(), key=lambda item: -item[1]["auroc"]):
        print(f"{name:22} AUROC {100 * found['auroc']:.2f} %  FPR {100 * found['fpr95']:.1f} %")


if __name__ == "__main__":
    main()
