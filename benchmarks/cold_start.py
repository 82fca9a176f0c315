"""From a cold start to the first label: ``resight predict`` for one picture, seconds and peak memory.

    python benchmarks/cold_start.py [--run RUN --picture FILE] [--rounds 5]

Without a Run, an untrained ResNet-18 at 224 px is imported (speed does not depend on the weights). Every round is a
process of its own; memory is the peak resident set that the kernel reports for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from common import save, summary


def prepare(folder: Path) -> None:
    from safetensors.torch import save_file

    from resight.commands.import_ import import_weights
    from resight.models import create

    save_file(create("resnet18", num_classes=10).state_dict(), folder / "weights.safetensors")
    names = [f"class {number}" for number in range(10)]
    import_weights(folder / "weights.safetensors", model="resnet18", classes=names, out=folder / "run")
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "picture.jpg")


def once(python: str, run: Path, picture: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one ``resight predict``."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", "resight.cli", "predict", str(run), str(picture), "--json"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"resight predict failed with exit code {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs resight")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepare", type=Path, help="only make a Run and a picture there (used by the program itself)")
    args = parser.parse_args()
    if args.prepare:
        prepare(args.prepare)
        return
    with tempfile.TemporaryDirectory() as folder:
        run, picture = args.run, args.picture
        if run is None:  # in a process of its own: a child's peak starts at the memory of its parent
            subprocess.run([sys.executable, __file__, "--prepare", folder], check=True)
            run, picture = Path(folder) / "run", Path(folder) / "picture.jpg"
        once(args.python, run, picture)  # the files are in the page cache from here on
        seconds, memory = zip(*(once(args.python, run, picture) for _ in range(args.rounds)), strict=True)
    save("cold_start", {"seconds": summary(list(seconds)), "peak_mib": summary(list(memory))})


if __name__ == "__main__":
    main()
