"""The losses of some updates of the deepest networks, from the first one on.

    python benchmarks/deep_training.py DATA [--net resnet1202] [--steps 400] [--batch 16] [--stem tiny] [--seed 0]
        [--set FIELD=VALUE …] [--name resnet1202-without]
    python benchmarks/deep_training.py --figure

Recipe `he2015-cifar` with its warm-up, by the training's own loop; the rate is in proportion to the batch (0.1 for
128). With `--stem tiny` the first convolution has stride 2: all behind it is four times cheaper. Each loss is appended
to `results/deep/NET.jsonl` as it comes: a run that is stopped has what it has.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, machine
from resight.training.progress import Silent


class Losses(Silent):
    """Appends the loss of each update, (mean over its pictures), the rate and the processor seconds so far."""

    def __init__(self, path: Path, batch: int) -> None:
        self.path, self.batch, self.sum = path, batch, 0.0

    def step(self, done: int, loss: float, rate: float) -> None:
        """loss: the mean over the epoch so far; there is one epoch only."""
        total = loss * done * self.batch
        entry = {"step": done, "loss": (total - self.sum) / self.batch, "rate": rate, "cpu": time.process_time()}
        self.sum = total
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def train(args: argparse.Namespace) -> None:
    from resight.cli.options import pairs
    from resight.commands import resume
    from resight.commands.start import start

    net, steps, batch = args.net, args.steps, args.batch
    path = RESULTS / "deep" / f"{args.name or net}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(
            {"net": net, "steps": steps, "batch": batch, "stem": args.stem, "seed": args.seed, "set": args.set}
            | machine(1)
        )
        + "\n"
    )
    report = Losses(path, batch)
    wishes: dict[str, Any] = {"model.name": net, "batch": batch, "total_steps": steps, "data.workers": 0}
    wishes |= {"optimizer.lr": 0.1 * batch / 128, "schedule.warmup": 0.15, "device": "cpu", "threads": 1}
    wishes |= {
        "seed": args.seed,
        "model.options.stem": args.stem,
        "save_minutes": 600,
        "data.val_fraction": 0.001,
    }  # one validation, of few pictures
    wishes |= pairs(args.set)
    with tempfile.TemporaryDirectory() as out:
        run = start(args.data, wishes, "he2015-cifar", Path(out) / "run", report.say)
        config = resume._config(run)
        samples = resume._samples(run, config)
        if steps * batch > len(samples.part("train")):
            raise SystemExit("more updates than the data have in one epoch")
        resume._fit(run, config, samples, report)


def figure() -> None:
    """Each update's loss, pale, and the mean of the last 20: as it is, and what is near that of guessing."""
    import math

    import matplotlib

    matplotlib.use("agg")
    import numpy as np
    from matplotlib import pyplot as plt

    shown, (whole, near) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for number, path in enumerate(sorted((RESULTS / "deep").glob("*.jsonl"))):
        rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        losses = np.array([row["loss"] for row in rows])
        mean = np.convolve(losses, np.full(20, 1 / 20), "valid")
        for axes in (whole, near):
            axes.plot(range(1, len(losses) + 1), losses, color=f"C{number}", alpha=0.25, linewidth=0.8)
            axes.plot(range(20, len(losses) + 1), mean, color=f"C{number}", label=path.stem)
    near.axhline(math.log(10), color="gray", linestyle=":", linewidth=1)
    near.text(240, math.log(10), "guessing", color="gray", ha="right", va="bottom")
    whole.set(xlabel="update", ylabel="training loss", ylim=(0, None))
    near.set(xlabel="update", ylim=(1.8, 2.6))
    for axes in (whole, near):
        axes.spines[["top", "right"]].set_visible(False)
    whole.legend(frameon=False)
    shown.savefig(RESULTS.parent.parent / "docs" / "images" / "deep-losses.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--net", default="resnet1202")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stem", default="cifar", choices=["cifar", "tiny"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as of `resight train`")
    parser.add_argument("--name", help="of the file, by default the net's")
    parser.add_argument("--figure", action="store_true", help="draw what is there into docs/images/deep-losses.png")
    args = parser.parse_args()
    if args.figure or args.data is None:
        figure()
    else:
        train(args)


if __name__ == "__main__":
    main()
