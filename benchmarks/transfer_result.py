"""P8 from the pieces that ``transfer.py`` has measured: the table, and the plot of data efficiency.

    python benchmarks/transfer_result.py [--size 64]

Writes benchmarks/results/P8-transfer.json, and docs/images/transfer.png of the curve at ``--size``, from what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from common import ROOT, lost_row, row, save
from transfer import CURVE, OURS, PIECES, RATES, name_of

TARGETS = {"ladder": 5.0, "features": 30.0}
"""Times faster than 25 epochs."""


def pieces(case: str, size: int) -> dict[int, dict[str, dict[str, Any]]]:
    """By seed and side, of the seeds that have the reference."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for path in sorted(PIECES.glob(f"{case}-{size}-*-*.json")):
        seed, side = path.stem.removeprefix(f"{case}-{size}-").split("-")
        piece = json.loads(path.read_text())
        piece["right"] = np.array([c == "1" for c in piece["right"]])
        found.setdefault(int(seed), {})[side] = piece
    return {seed: sides for seed, sides in sorted(found.items()) if "reference" in sides}


def lost(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> dict[str, float]:
    """Points of accuracy that ``theirs`` has more: mean of the seeds, with a 95 % interval over pictures.

    Both answer the same pictures in each seed; a picture counts once, with the mean difference of its seeds.
    """
    each = 100 * np.mean([b.astype(float) - a for a, b in zip(ours, theirs, strict=True)], axis=0)
    margin = 1.96 * float(each.std(ddof=1)) / math.sqrt(len(each))
    value = float(each.mean())
    return {"median": value, "min": value - margin, "max": value + margin, "n": len(each)}


def cores() -> str:
    """As the pieces say it."""
    return ", ".join(
        sorted({json.loads(path.read_text())["machine"]["threads"] for path in PIECES.glob("*-*-?-*.json")})
    )


def spread(values: Sequence[np.ndarray]) -> dict[str, float]:
    found = [100 * float(value.mean()) for value in values]
    return {"median": statistics.mean(found), "min": min(found), "max": max(found), "n": len(found)}


def rows_of(case: str, size: int) -> list[dict[str, Any]]:
    from resight.evaluation.paired import compare_answers

    found, rows = pieces(case, size), []
    for side in OURS:
        seeds = [sides for sides in found.values() if side in sides]
        if not seeds:
            continue
        ours, theirs = ([sides[name] for sides in seeds] for name in (side, "reference"))
        label = f"{case}, {size} px: {side}"
        each = []
        for a, b in zip(ours, theirs, strict=True):
            truth = np.zeros(len(a["right"]), int)
            pair = compare_answers(1 - a["right"].astype(int), 1 - b["right"].astype(int), truth, ["right", "wrong"])
            d = pair.overall.difference
            each.append(f"{100 * d.value:+.2f} [{100 * d.low:.2f}, {100 * d.high:.2f}]")
        whole = statistics.mean(piece["whole"] for piece in ours)
        kept = [piece["transfer"]["kept"] for piece in ours]
        said = f"kept: {', '.join(map(str, kept))}; " if side == "ladder" else ""
        equal = (
            f"{said}with the seal {whole:.0f} s on average; points more than the reference, by seed: {'; '.join(each)}"
        )
        shared = all("processor" in piece for piece in (*ours, *theirs))
        times = [[piece["processor" if shared else "seconds"] for piece in pieces_] for pieces_ in (ours, theirs)]
        unit = "processor s" if shared else "s"
        rows.append(
            row(label, ("Resight", times[0]), ("25 epochs", times[1]), unit=unit, target=TARGETS.get(side), equal=equal,
                more_is_better=False)
        )  # fmt: skip
        right = [[piece["right"] for piece in pieces_] for pieces_ in (ours, theirs)]
        rows.append(
            lost_row(
                f"{label}, accuracy",
                ("Resight", spread(right[0])),
                ("25 epochs", spread(right[1])),
                lost(*right),
                unit="%",
                target=0.0 if side == "ladder" else None,
                equal="the same test pictures; mean of the seeds, interval over pictures",
            )
        )
    return rows


def merge() -> None:
    cases = sorted({tuple(path.stem.split("-rate")[0].rsplit("-", 1)) for path in PIECES.glob("*-rate.json")})
    chosen = {f"{case}, {size} px": json.loads(name_of(case, int(size), "rate").read_text()) for case, size in cases}
    among = f"by validation of seed 0 among {', '.join(map(str, RATES))}"
    rates = [f"{name}: {c['rate']:g}, {among if c['validation'] else 'not searched'}" for name, c in chosen.items()]
    save(
        "P8-transfer",
        title="Transfer to few pictures: a pretrained ResNet-18 beside 25 epochs of full fine-tuning",
        target="P8",
        command="python benchmarks/transfer.py rate CASE --data DATA --weights FILE; … run CASE …; transfer_result.py",
        rows=[line for case, size in cases for line in rows_of(case, int(size))],
        notes=[
            "Weights: a ResNet-18 of 202 classes at 64 px, 30.4 % top-1 on Tiny-ImageNet: weak, but real features.",
            f"The reference's rate: {'; '.join(rates)}.",
            f"Cores that each side could use: {cores()}.",
            "Seconds run from the first file that is opened to the weights that are kept, without imports; ours hold "
            "the check of all files, validation and checkpoints. The ratio is taken for each seed.",
        ],
    )


def plot(size: int) -> None:
    """docs/images/transfer.png: test accuracy over pictures a class, mean and range of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found: dict[str, dict[int, list[float]]] = {}
    for path in PIECES.glob(f"curve-{size}-*.json"):
        _, _, each, _, side = path.stem.split("-")
        found.setdefault(side, {}).setdefault(int(each), []).append(100 * json.loads(path.read_text())["accuracy"])
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    names = {"scratch": "from scratch", "features": "frozen features", "ladder": "the ladder"}
    for side, colour in zip(CURVE, ("#5b636d", "#c46a00", "#1f5fbf"), strict=True):
        points = sorted(found.get(side, {}).items())
        if points:
            x = [each for each, _ in points]
            axes.plot(x, [statistics.mean(v) for _, v in points], marker="o", color=colour, label=names[side])
            axes.fill_between(x, [min(v) for _, v in points], [max(v) for _, v in points], color=colour, alpha=0.15)
    axes.set_xscale("log")
    ticks = sorted({each for points in found.values() for each in points})
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_xlabel("training pictures of each class")
    axes.set_ylabel(f"test accuracy, %, at {size} px")
    axes.set_ylim(0, 100)
    axes.grid(color="#dfe3e8")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "transfer.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    if any(PIECES.glob("*-rate.json")):
        merge()
    if any(PIECES.glob(f"curve-{args.size}-*.json")):
        plot(args.size)


if __name__ == "__main__":
    main()
