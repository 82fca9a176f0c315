"""What a teacher gives: ResNet-20 with and without one, for equally many updates, on CIFAR-10 as JPEG files.

    python benchmarks/distillation.py DATA --scratch FOLDER (--teacher RUN | --weights FILE) [--each 1000]
        [--options none teacher …] [--seeds 0 1 2] [--epochs 15]
    python benchmarks/distillation.py --table

DATA has class folders in train and test. A table in FOLDER takes ``each`` training pictures of every class, a tenth as
many to validate, and the whole test part. FILE holds weights of a ResNet-56 trained elsewhere on CIFAR-10; such a
teacher has seen pictures that the student does not see, as teachers mostly have. Options: ``none``; ``teacher``, with
the defaults of ``--teacher``; ``teacher:distill.weight=0.9`` and its like. One training after another; each is added to
benchmarks/results/distillation/NAME.json when it is done. Time is not measured: with a teacher an update takes longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import RESULTS
from pieces import Row, add, gains, load, missing, settings_of, shown_gains, spread, train_one, write_table

FOLDER = RESULTS / "distillation"
CLASSES = 10
OPTIONS = ("none", "teacher")


def teacher_run(weights: Path, table: Path) -> Path:
    """A Run of weights for the classes of ``table``, made once beside it."""
    from resight import import_weights

    place = table.parent.parent / f"teacher-{weights.stem}"
    if not place.exists():
        import_weights(weights, model="resnet56", classes=table, out=place)
    return place


def taught_by(run: Path, table: Path) -> str:
    """What the teacher itself answers on the table's test part, in words."""
    from resight import Run, evaluate_run

    found = evaluate_run(run, table, part="test").evaluation.metrics["accuracy"]
    card = Run.open(run).card
    low, high = 100 * found.low, 100 * found.high
    return f"teacher: {card.architecture.name}, test accuracy {100 * found.value:.1f} % [{low:.1f}, {high:.1f}]"


def table(rows: Sequence[Row]) -> str:
    """Of each option the means over its seeds; the gain is over ``none`` of the same seed."""
    lines = [
        "| option | seeds | updates | accuracy | gain, points (each seed) | log loss | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    base = [row for row in rows if row["option"] == "none"]
    for option in sorted({row["option"] for row in rows}, key=lambda name: (name != "none", name)):
        found = [row for row in rows if row["option"] == option]
        gain = "–" if option == "none" else shown_gains(gains(found, base, "accuracy"))
        updates = ", ".join(f"{steps:,}" for steps in sorted({row["steps"] for row in found}))
        loss = sum(row["log_loss"] for row in found) / len(found)
        cells = [f"`{option}`", str(len(found)), updates, spread([row["accuracy"] for row in found]), gain]
        lines.append(f"| {' | '.join(cells)} | {loss:.3f} | {spread([row['ece'] for row in found])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--scratch", type=Path, help="where copies of the pictures are made")
    parser.add_argument("--teacher", type=Path, help="a sealed Run of the same classes")
    parser.add_argument("--weights", type=Path, help="or weights of a ResNet-56 to make one of")
    parser.add_argument("--each", type=int, default=1000, help="training pictures of each class")
    parser.add_argument("--options", nargs="+", default=list(OPTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--name", default="cifar10-jpeg", help="of the file of results")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    args = parser.parse_args()
    path = FOLDER / f"{args.name}.json"
    if not args.table:
        if not (args.data and args.scratch and (args.teacher or args.weights)):
            parser.error("DATA, --scratch and --teacher or --weights are needed")
        pictures = write_table(args.data, args.scratch / f"{args.each}-each", [args.each] * CLASSES)
        teacher = args.teacher or teacher_run(args.weights, pictures)
        notes = [taught_by(teacher, pictures), f"{args.each} training pictures of each class, {args.epochs:g} epochs"]
        for option, seed in missing(path, args.options, args.seeds, args.epochs):
            wishes: dict[str, Any] = {} if option == "none" else {"teacher": teacher, "set": settings_of(option)}
            add(path, train_one(pictures, option, seed, args.epochs, **wishes), notes)
    print(table(load(path)))


if __name__ == "__main__":
    main()
