"""P9: what more pictures and more classes cost: seconds a picture and peak memory of one epoch.

    python benchmarks/growth.py [--pictures 1280] [--rounds 3]

One epoch of ResNet-20 (recipe `quick`, JPEG files of 64 px trained at 32) on 1×, 4× and 16× the pictures, with the
cache and without it (`data.cache_gb=0`), and on 5,120 pictures in 10, 100 and 1,000 classes. Timed is everything that
grows: finding and checking every file, the training, the checkpoints, the validation. What does not is left out:
imports, and the export when the Run is sealed. A training also has a start that costs the same for any number of
pictures and would hide growth, so time is compared by what each further picture costs. Memory is the process's peak
resident set as the kernel keeps it (VmHWM). Cases take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import interleave, row, save

SIDE, SIZE = 64, 32
FACTORS, CLASSES = (1, 4, 16), (10, 100, 1000)
IN_CLASSES = 5120  # pictures, so that a thousand classes have some to train on, to validate and to test
TARGET = 0.9
"""Linear and flat: no more than a ninth slower a picture, or larger, than the smallest case."""

Side = tuple[str, list[float]]


def generate(root: Path, count: int, classes: int) -> Path:
    random = np.random.default_rng(0)
    folders = [root / f"{number:04}" for number in range(classes)]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folders[number % classes] / f"{number}.jpg", quality=90)
    return root


def one_epoch(data: Path, cache_gb: float) -> dict[str, float]:
    """Seconds, the pictures that were trained on or validated in them, and peak MiB."""
    from resight.commands import resume
    from resight.commands.start import start
    from resight.training.progress import Silent

    wishes = {"model.name": "resnet20", "epochs": 1, "data.image_size": SIZE, "data.cache_gb": cache_gb, "batch": 128}
    wishes |= {"data.disk_cache_gb": 0, "device": "cpu"}  # memory alone is measured
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        silent = Silent()
        run = start(data, wishes, "quick", Path(out) / "run", silent.say)
        config = resume._config(run)
        resume._fit(run, config, resume._samples(run, config), silent)
        elapsed = time.perf_counter() - begun
    counts = run.card.data["counts"]
    return {"seconds": elapsed, "pictures": counts["train"] + counts["val"], "memory": peak_mib()}


def peak_mib() -> float:
    """VmHWM: unlike ``ru_maxrss``, it starts anew when a process starts another program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def rows(found: dict[str, list[dict[str, float]]], pictures: int) -> list[dict[str, Any]]:
    def line(
        case: str, large: Side, small: Side, unit: str, target: float | None = TARGET, equal: str = ""
    ) -> dict[str, Any]:
        return row(case, large, small, unit=unit, target=target, equal=equal, more_is_better=False)

    def memory(name: str) -> Side:
        return name.partition(", ")[0], [values["memory"] for values in found[name]]

    lines = []
    for cache in ("with cache", "no cache"):
        first, second, third = [f"{pictures * times:,} pictures, {cache}" for times in FACTORS]
        late, early = further(found, second, third), further(found, first, second)
        lines.append(line(f"time of each further picture, {cache}", late, early, "ms"))
        # The cache is there to grow: its size is the pictures', until it is full.
        target = TARGET if cache == "no cache" else None
        for name in (second, third):
            lines.append(line(f"peak memory, {cache}", memory(name), memory(first), "MiB", target))
    first, *larger = [f"{count:,} classes" for count in CLASSES]
    for name in larger:
        times = [(side, [1000 * v["seconds"] / v["pictures"] for v in found[side]]) for side in (name, first)]
        lines.append(line(f"time of each of {IN_CLASSES:,} pictures", *times, "ms"))
        lines.append(line(f"peak memory, {IN_CLASSES:,} pictures", memory(name), memory(first), "MiB"))
    return lines


def further(found: dict[str, list[dict[str, float]]], fewer: str, more: str) -> Side:
    """Milliseconds for each picture that ``more`` has beyond ``fewer``, in each round."""
    pairs = zip(found[fewer], found[more], strict=True)
    costs = [1000 * (b["seconds"] - a["seconds"]) / (b["pictures"] - a["pictures"]) for a, b in pairs]
    return f"{fewer.split()[0]} to {more.split()[0]}", costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1280, help="of the smallest case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs=2, metavar=("DATA", "CACHE_GB"), help="one case (used by the program itself)")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(one_epoch(Path(args.case[0]), float(args.case[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        root, sides = Path(name), {}
        for times in FACTORS:
            count = args.pictures * times
            data = str(generate(root / f"{count}", count, 10))
            sides[f"{count:,} pictures, with cache"] = [__file__, "--case", data, "4"]
            sides[f"{count:,} pictures, no cache"] = [__file__, "--case", data, "0"]
        for classes in CLASSES:
            data = str(generate(root / f"{classes}-classes", IN_CLASSES, classes))
            sides[f"{classes:,} classes"] = [__file__, "--case", data, "4"]
        found = interleave(sides, args.rounds)
    save(
        "P9-growth",
        title="The cost of growth",
        target="P9",
        command="python benchmarks/growth.py",
        rows=rows(found, args.pictures),
        notes=[
            "Both sides are Resight. Linear means that each further picture costs no more among many than among few, "
            "flat that memory does not grow; a target of 0.9 leaves a ninth for noise.",
            f"With the cache, {16 * args.pictures:,} squares of {SIZE} px take "
            f"{16 * args.pictures * SIZE**2 * 3 / 2**20:.0f} MiB; the rows without it show what else grows.",
        ],
    )


if __name__ == "__main__":
    main()
