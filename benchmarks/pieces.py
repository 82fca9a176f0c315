"""Comparisons of trainings that are done one at a time: tables of pictures, and a file that gathers results.

What is done already is not repeated, so that hours of training can be done in pieces and beside other work.
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common import machine

Row = dict[str, Any]
VALUES = ("accuracy", "macro_f1", "log_loss", "ece")


def write_table(data: Path, root: Path, counts: Sequence[int], share: float = 0.1) -> Path:
    """``root/table.csv`` and copies of its pictures, made once: of each class of ``data/train`` the first so many by
    name to train on, and of the last ones ``share`` as many to validate; all of ``data/test``."""
    table = root / "table.csv"
    if table.is_file():
        return table
    names = sorted(folder.name for folder in (data / "train").iterdir() if folder.is_dir())
    rows = []
    for name, count in zip(names, counts, strict=True):
        train, test = sorted((data / "train" / name).iterdir()), sorted((data / "test" / name).iterdir())
        held = max(1, round(share * count))
        if count + held > len(train):
            raise SystemExit(f"{data / 'train' / name} has {len(train)} pictures, and {count} + {held} are needed")
        for part, files in (("train", train[:count]), ("val", train[-held:]), ("test", test)):
            target = root / part / name
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copyfile(file, target / file.name)
                rows.append((f"{part}/{name}/{file.name}", name, part))
    with (root / "table.part").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    (root / "table.part").rename(table)
    return table


def settings_of(option: str) -> dict[str, str]:
    """Fields of the configuration in ``a.b=1:c=2``."""
    return dict(pair.split("=", 1) for pair in option.split(":") if "=" in pair)


def train_one(table: Path, option: str, seed: int, epochs: float, **wishes: Any) -> Row:
    """One training of ResNet-20 by `quick` to its sealed Run, and what the test part says of it."""
    import resight

    with tempfile.TemporaryDirectory(dir=table.parent.parent) as out:
        run = resight.train(
            table, model="resnet20", recipe="quick", epochs=epochs, seed=seed, device="cpu", out=Path(out) / "run",
            **wishes,
        )  # fmt: skip
        found, config = run.card.metrics["test"], json.loads(run.file("config.json").read_bytes())
    done = {
        "option": option,
        "seed": seed,
        "epochs": epochs,
        "steps": config["total_steps"],
        "threads": run.card.threads,
    }
    values = {name: found["metrics"][name]["value"] for name in VALUES}
    recalls = [one["recall"]["value"] for one in found["per_class"]]
    return {**done, **values, "recalls": recalls}


def key(row: Row) -> tuple[str, int, float]:
    return row["option"], row["seed"], row["epochs"]


def load(path: Path) -> list[Row]:
    return list(json.loads(path.read_text("utf-8"))["rows"]) if path.is_file() else []


def missing(path: Path, options: Sequence[str], seeds: Sequence[int], epochs: float) -> Iterable[tuple[str, int]]:
    """Options and seeds that the file of results lacks, seed by seed."""
    for seed in seeds:
        for option in options:
            if (option, seed, epochs) not in {key(row) for row in load(path)}:
                yield option, seed


def add(path: Path, row: Row, notes: Sequence[str]) -> None:
    """Adds a row to the file of results, whole or not at all."""
    from resight.runs.storage import write_atomic

    rows = [old for old in load(path) if key(old) != key(row)]
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"machine": machine(row["threads"]), "notes": list(notes), "rows": sorted([*rows, row], key=key)}
    write_atomic(path, (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode())


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean of shares in percent, ± the standard deviation over seeds where there are several."""
    found = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.{digits}f}{deviation} %"


def gains(rows: Sequence[Row], base: Sequence[Row], name: str) -> list[float]:
    """In points, against the row of ``base`` with the same seed, for each seed that both have."""
    before = {row["seed"]: row[name] for row in base}
    return [100 * (row[name] - before[row["seed"]]) for row in rows if row["seed"] in before]


def shown_gains(values: Sequence[float]) -> str:
    each = ", ".join(f"{value:+.1f}" for value in values)
    return f"{statistics.mean(values):+.1f} ({each})" if values else "–"
