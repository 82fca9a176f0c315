"""What helps against classes of very different size: macro-F1 of each option on a long-tailed CIFAR-10 (100:1).

    python benchmarks/imbalance.py DATA --scratch FOLDER [--options none logit …] [--seeds 0 1 2] [--epochs 15]
    python benchmarks/imbalance.py --table

DATA is CIFAR-10 as class folders in train and test. A table in FOLDER takes a long tail of its training pictures, by
the exponential profile of Cui et al. 2019, §5.1: class k has 4,500 · 100^(−k/9) of them. Validation is as long-tailed,
as a person would have it: a tenth as many, out of what is left over. The test part has all classes equally often. Every
option trains ResNet-20 by `quick` for equally many updates. Options: those of ``--balance``, or fields of the
configuration such as ``balance.sampling=sqrt`` (several joined by a colon), to which select=balanced is added. One
training after another; each is added to benchmarks/results/imbalance/NAME.json when it is done. Time is not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import RESULTS
from pieces import Row, add, gains, load, missing, settings_of, shown_gains, spread, train_one, write_table

FOLDER = RESULTS / "imbalance"
LARGEST, RATIO, CLASSES = 4500, 100, 10
OPTIONS = ("none", "weights", "sampling", "logit", "focal")


def profile(classes: int = CLASSES, largest: int = LARGEST, ratio: int = RATIO) -> list[int]:
    """Pictures of each class: the exponential profile of Cui et al. 2019, from ``largest`` down to largest / ratio."""
    return [round(largest * ratio ** (-k / (classes - 1))) for k in range(classes)]


def table(rows: Sequence[Row]) -> str:
    """Of each option the means over its seeds; the gain is over ``none`` of the same seed."""
    lines = [
        "| option | seeds | macro-F1 | gain, points (each seed) | accuracy | recall, 3 largest | recall, 3 smallest |",
        "|---|---|---|---|---|---|---|",
    ]
    base = [row for row in rows if row["option"] == "none"]
    for option in sorted({row["option"] for row in rows}, key=lambda name: (name != "none", name)):
        found = [row for row in rows if row["option"] == option]
        gain = "–" if option == "none" else shown_gains(gains(found, base, "macro_f1"))
        recalls = np.array([row["recalls"] for row in found])
        large, small = (spread(part.mean(axis=1).tolist()) for part in (recalls[:, :3], recalls[:, -3:]))
        f1, accuracy = (spread([row[name] for row in found]) for name in ("macro_f1", "accuracy"))
        cells = (f"`{option}`", str(len(found)), f1, gain, accuracy, large, small)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--scratch", type=Path, help="where the long-tailed copy of the pictures is made")
    parser.add_argument("--options", nargs="+", default=list(OPTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--name", default="long-tail", help="of the file of results")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    args = parser.parse_args()
    path = FOLDER / f"{args.name}.json"
    if not args.table:
        if not (args.data and args.scratch):
            parser.error("DATA and --scratch say where pictures are and may be copied to")
        pictures = write_table(args.data, args.scratch / "long-tail", profile())
        for option, seed in missing(path, args.options, args.seeds, args.epochs):
            own = settings_of(option)
            wishes = {"set": {"select": "balanced", **own}} if own else {"balance": option}
            add(path, train_one(pictures, option, seed, args.epochs, **wishes), [f"{args.epochs:g} epochs"])
    print(table(load(path)))


if __name__ == "__main__":
    main()
