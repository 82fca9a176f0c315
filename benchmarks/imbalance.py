"""What helps against classes of very different size: macro-F1 of each option on a long-tailed CIFAR-10 (100:1).

    python benchmarks/imbalance.py DATA --scratch FOLDER [--options none logit …] [--seeds 0 1 2] [--epochs 15]
    python benchmarks/imbalance.py --table

DATA is CIFAR-10 as class folders in train and test. A table in FOLDER takes a long tail of its training pictures, by
the exponential profile of Cui et al. 2019, §5.1: class k has 4,500 · 100^(−k/9) of them. Validation is as long-tailed,
as a person would have it: a tenth as many, out of what is left over. The test part has all classes equally often. Every
option trains ResNet-20 by `quick` for equally many updates. Options: those of ``--balance``, or fields of the
configuration such as ``balance.sampling=sqrt`` (several joined by a colon), to which select=balanced is added. One
training after another; each is added to benchmarks/results/imbalance/NAME.json when it is done and is not repeated, so
that the work can be done in pieces and beside other work. Time is not measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import RESULTS, machine

FOLDER = RESULTS / "imbalance"
LARGEST, RATIO, VALIDATION = 4500, 100, 0.1
OPTIONS = ("none", "weights", "sampling", "logit", "focal")
Row = dict[str, Any]


def profile(classes: int, largest: int = LARGEST, ratio: int = RATIO) -> list[int]:
    """Pictures of each class: the exponential profile of Cui et al. 2019, from ``largest`` down to largest / ratio."""
    return [int(largest * ratio ** (-k / (classes - 1))) for k in range(classes)]


def write_table(data: Path, scratch: Path) -> Path:
    """``long-tail/table.csv`` and copies of its pictures, made once. Which pictures: by their names, in order."""
    root = scratch / "long-tail"
    table = root / "table.csv"
    if table.is_file():
        return table
    names = sorted(folder.name for folder in (data / "train").iterdir() if folder.is_dir())
    rows = []
    for name, count in zip(names, profile(len(names)), strict=True):
        train = sorted((data / "train" / name).iterdir())
        held = max(1, round(VALIDATION * count))
        test = sorted((data / "test" / name).iterdir())
        for part, files in (("train", train[:count]), ("val", train[len(train) - held :]), ("test", test)):
            target = root / part / name
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copyfile(file, target / file.name)
                rows.append((f"{part}/{name}/{file.name}", name, part))
    with (root / "table.part").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    (root / "table.part").rename(table)
    return table


def train_one(table: Path, scratch: Path, option: str, seed: int, epochs: float) -> Row:
    """One training to its sealed Run, and what the test part says of it."""
    import resight

    balance, settings = (option, {}) if "=" not in option else (None, {"select": "balanced"})
    if "=" in option:
        settings |= dict(pair.split("=", 1) for pair in option.split(":"))
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        run = resight.train(
            table, model="resnet20", recipe="quick", epochs=epochs, seed=seed, balance=balance, device="cpu",
            out=Path(out) / "run", set=settings,
        )  # fmt: skip
        found = run.card.metrics["test"]
        recalls = [one["recall"]["value"] for one in found["per_class"]]
        values = {name: found["metrics"][name]["value"] for name in ("accuracy", "macro_f1", "log_loss", "ece")}
    return {"option": option, "seed": seed, "epochs": epochs, **values, "recalls": recalls}


def merged(path: Path, row: Row) -> None:
    """Adds a row to the file of results, whole or not at all."""
    from resight.runs.storage import write_atomic

    rows = [old for old in load(path) if key(old) != key(row)]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "rows": sorted([*rows, row], key=key)}, indent=1)
    write_atomic(path, (text + "\n").encode())


def load(path: Path) -> list[Row]:
    return list(json.loads(path.read_text("utf-8"))["rows"]) if path.is_file() else []


def key(row: Row) -> tuple[str, int, float]:
    return row["option"], row["seed"], row["epochs"]


def table(rows: Sequence[Row]) -> str:
    """Of each option the means over its seeds; the gain is the mean of pairs with ``none`` of the same seed."""
    lines = [
        "| option | seeds | macro-F1 | gain, points (each seed) | accuracy | recall, 3 largest | recall, 3 smallest |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {row["seed"]: row["macro_f1"] for row in rows if row["option"] == "none"}
    for option in sorted({row["option"] for row in rows}, key=lambda name: (name != "none", name)):
        found = [row for row in rows if row["option"] == option]
        gains = [100 * (row["macro_f1"] - base[row["seed"]]) for row in found if row["seed"] in base]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        shown = "–" if option == "none" or not gains else f"{statistics.mean(gains):+.1f} ({each})"
        recalls = np.mean([row["recalls"] for row in found], axis=0)
        large, small = 100 * recalls[:3].mean(), 100 * recalls[-3:].mean()
        cells = [f"`{option}`", len(found), _spread(found, "macro_f1"), shown, _spread(found, "accuracy")]
        lines.append(f"| {' | '.join(map(str, cells))} | {large:.1f} % | {small:.1f} % |")
    return "\n".join(lines)


def _spread(rows: Sequence[Row], name: str) -> str:
    """Mean over seeds in percent, ± the standard deviation where there are several."""
    values = [100 * row[name] for row in rows]
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation} %"


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
        source = write_table(args.data, args.scratch)
        done = {key(row) for row in load(path)}
        for seed in args.seeds:
            for option in args.options:
                if (option, seed, args.epochs) not in done:
                    merged(path, train_one(source, args.scratch, option, seed, args.epochs))
    print(table(load(path)))


if __name__ == "__main__":
    main()
