"""Quick measures of whatever Resight is on the path: what guard.py runs against two commits.

    python benchmarks/measures.py NAME FOLDER

prints ``{"value": …}``, larger is better. ``prepare`` comes first and fills FOLDER with pictures and a Run, in the
measured commit's own form. Resight is imported inside the functions: what an old commit lacks fails there, by name.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES, SIDE = 96, (375, 500)


def prepare(folder: Path) -> float:
    """JPEG files in two classes, and an untrained ResNet-18 imported as a Run."""
    from safetensors.torch import save_file

    from resight import import_weights
    from resight.models import create

    random = np.random.default_rng(0)
    for number in range(PICTURES):
        path = folder / "pictures" / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize(SIDE[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
    save_file(create("resnet18", num_classes=2).state_dict(), folder / "weights.safetensors")
    import_weights(folder / "weights.safetensors", model="resnet18", classes=["a", "b"], out=folder / "run")
    return 1.0


def _step(model: str, size: int, batch: int, timed: int) -> float:
    import steps

    steps.use_machine()
    config = steps.configure(model, size, batch, "he2015-cifar", 10)
    return batch / steps.seconds(steps.our_step(steps.training(config, 10)), warm=2, timed=timed)


def data_loading(folder: Path) -> float:
    """Pictures a second from JPEG files to training batches at 224 px, decoded for the first time."""
    from resight import samples as data_sets
    from resight.training import prepare as preparation
    from resight.training.loader import TrainLoader

    samples = data_sets.load(folder / "pictures")
    wishes = {"data.image_size": 224, "batch": 16, "total_steps": 4, "device": "cpu"}
    config, _ = preparation.configure(samples, np.array([SIDE[::-1]]), wishes, "he2015-imagenet")
    loader = TrainLoader(preparation.train_pictures(samples, config), config)
    start = time.perf_counter()
    count = sum(len(batch.labels) for batch in loader.batches(0, 4))
    return count / (time.perf_counter() - start)


def predict(folder: Path) -> float:
    """Pictures a second from JPEG files to answers."""
    from resight.inference import Predictor
    from resight.runs import Run

    files = sorted((folder / "pictures").rglob("*.jpg"))
    predictor = Predictor(Run.open(folder / "run"))
    list(predictor.predict(files[: 4 * predictor.threads]))  # enough that the way of many pictures is warm
    start = time.perf_counter()
    answered = [answer for answer in predictor.predict(files) if answer.error is None]
    if len(answered) != len(files):
        raise SystemExit(f"{len(files) - len(answered)} pictures were not answered")
    return len(files) / (time.perf_counter() - start)


def latency(folder: Path) -> float:
    """Answers a second to one picture at a time, pixels given."""
    from resight.inference import Predictor
    from resight.runs import Run

    predictor = Predictor(Run.open(folder / "run"))
    size = predictor.run.card.geometry.size
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    times = []
    for _ in range(25):
        start = time.perf_counter()
        predictor.run_pixels(pixels)
        times.append(time.perf_counter() - start)
    return 1 / float(np.median(times[5:]))


def _per_second(*arguments: str) -> float:
    """Fresh Python processes a second, one after another."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return 1 / (time.perf_counter() - start)


def cold_start(folder: Path) -> float:
    """First labels a second, each from a cold start of the command."""
    picture = folder / "pictures" / "0" / "0.jpg"
    return _per_second("-m", "resight.cli", "predict", str(folder / "run"), str(picture), "--json")


MEASURES: dict[str, Callable[[Path], float]] = {
    "step of ResNet-20 at 32 px": lambda _: _step("resnet20", 32, 64, 8),
    "step of ResNet-18 at 128 px": lambda _: _step("resnet18", 128, 16, 3),
    "JPEG to training batch": data_loading,
    "JPEG to answer": predict,
    "answer to one picture": latency,
    "cold start to the first label": cold_start,
    "resight --help": lambda _: _per_second("-m", "resight.cli", "--help"),
    "import resight.training.fit": lambda _: _per_second("-c", "import resight.training.fit"),
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    import resight

    measure = prepare if name == "prepare" else MEASURES[name]
    print(json.dumps({"value": measure(folder), "resight": resight.__file__}))


if __name__ == "__main__":
    main()
