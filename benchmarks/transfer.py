"""P8: transfer to few pictures. The ladder, features alone, full fine-tuning and no weights, beside 25 epochs.

    python benchmarks/transfer.py rate CASE --data DATA --weights FILE [--size 64]
    python benchmarks/transfer.py run CASE --data DATA --weights FILE [--size 64] [--seeds 0 1 2] [--sides SIDE …]
    python benchmarks/transfer.py curve --data DATA --weights FILE [--size 64] [--seeds 0 1 2] [--each 5 10 25 90]

CASE: ``clothing``, ``cifar-1000`` or ``cifar-5000``; DATA holds train/CLASS and val/CLASS (clothing) or test/CLASS.
Each piece (case, size, seed, side) is one file in benchmarks/results/transfer, so that a long measurement can be made
in parts; ``transfer_result.py`` makes P8-transfer.json and docs/images/transfer.png of them.

Parts, the same for all sides: the val or test folder is the test part, whole, and no choice is made with it. A tenth of
the training pictures, by the seed, is for validation: the ladder chooses with it, the reference is trained without it.
Of CIFAR-10, 100 or 500 pictures a class are drawn by the seed. ``rate`` tries the reference's rate on the validation
part of seed 0, and ``run`` takes the best; the reference's last epoch counts.

Seconds: from the first file that is opened to the weights that are kept. Ours hold the check of all files, features,
regression, validation and checkpoints; not what the reference does not do: calibration, graph, parity, report. With
these they are kept as ``whole``. Imports count on no side. ``processor``: the same span in seconds of a processor, for
measurements that shared their cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common import RESULTS, machine, measure, processor_seconds

PIECES = RESULTS / "transfer"
REFERENCE = Path(__file__).with_name("transfer_reference.py")
RATES = (0.003, 0.01, 0.03)
OURS: dict[str, dict[str, Any]] = {
    "ladder": {"recipe": "transfer"},
    "features": {"recipe": "features"},
    "finetune": {"recipe": "finetune"},
    "scratch": {"recipe": "quick", "model": "resnet18"},
}
SIDES = ("reference", *OURS)
PER_CLASS = {"clothing": None, "cifar-1000": 100, "cifar-5000": 500}
CURVE = ("scratch", "features", "ladder")
VAL = 0.1


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────


def lay_out(data: Path, folder: Path, seed: int, per_class: int | None) -> None:
    """train, val and test/CLASS in ``folder``; with ``per_class``, so many pictures of each class for train and val."""
    random = np.random.default_rng(seed)
    test = "test" if (data / "test").is_dir() else "val"
    for source in sorted((data / "train").iterdir()):
        names = sorted(source.iterdir())
        chosen = [names[i] for i in random.permutation(len(names))[: per_class or len(names)]]
        held = max(1, round(VAL * len(chosen)))
        parts = {"val": chosen[:held], "train": chosen[held:], "test": sorted((data / test / source.name).iterdir())}
        for part, paths in parts.items():
            place = folder / part / source.name
            place.mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, place / path.name)


# ── one side ───────────────────────────────────────────────────────────────────────────────────────────────────


def our_side(data: Path, side: str, weights: str, size: int, seed: int) -> dict[str, Any]:
    """Trains in this process; seconds to the weights, and of everything with the seal."""
    import resight.transfer.ladder  # noqa: F401, no import is timed
    from resight import samples as data_sets
    from resight.commands.train import train
    from resight.exporting import seal as sealing
    from resight.runs import PREDICTIONS, SPLIT

    wishes = dict(OURS[side])
    if side != "scratch":
        wishes["weights"] = weights
    reached: list[tuple[float, float]] = []
    seal = sealing.seal

    def timed(*args: Any) -> None:
        reached.append((time.perf_counter(), processor_seconds()))
        seal(*args)

    sealing.seal = timed
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), processor_seconds()
        run = train(data, image_size=size, seed=seed, out=Path(folder) / "run", **wishes)
        whole = time.perf_counter() - start
        with np.load(run.file(PREDICTIONS)) as arrays:
            right = arrays["test_logits"].argmax(1) == arrays["test_labels"]
            positions = arrays["test_indices"]
        samples = data_sets.load(data, split_csv=run.file(SPLIT)).samples
    names = [samples[position].source.removeprefix("test/") for position in positions]
    return {
        "seconds": reached[0][0] - start,
        "processor": reached[0][1] - before,
        "whole": whole,
        "right": dict(zip(names, map(bool, right), strict=True)),
        "transfer": {name: run.card.transfer.get(name) for name in ("kept", "why", "epochs")},
    }


def measured(data: Path, side: str, args: argparse.Namespace, seed: int, **more: Any) -> dict[str, Any]:
    """One side in a process of its own."""
    common = ["--weights", str(args.weights), "--size", str(args.size), "--seed", str(seed)]
    if side != "reference":
        return measure([__file__, "side", side, "--data", str(data), *common])
    options = [item for name, value in more.items() for item in (f"--{name}", str(value))]
    return measure([REFERENCE, str(data), *common, *options])


# ── pieces ─────────────────────────────────────────────────────────────────────────────────────────────────────


def name_of(case: str, size: int, *rest: object) -> Path:
    return PIECES / ("-".join(map(str, (case, size, *rest))) + ".json")


def keep(path: Path, value: Mapping[str, Any]) -> None:
    """``right`` is kept as one digit for each picture, by name in order."""
    shown = dict(value)
    if "right" in shown:
        right = [shown["right"][name] for name in sorted(shown["right"])]
        shown |= {"right": "".join("01"[r] for r in right), "accuracy": statistics.mean(right)}
    PIECES.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(shown | {"machine": machine()}, indent=1, ensure_ascii=False) + "\n")
    print(f"{path.name}: { ({k: v for k, v in shown.items() if k != 'right'}) }", file=sys.stderr)


@contextmanager
def laid_out(args: argparse.Namespace, seed: int, per_class: int | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        lay_out(args.data, Path(folder), seed, per_class)
        yield Path(folder)


def find_rate(args: argparse.Namespace) -> None:
    with laid_out(args, 0, PER_CLASS[args.case]) as data:
        found = {rate: measured(data, "reference", args, 0, lr=rate, part="val")["right"] for rate in RATES}
    tried = {str(rate): statistics.mean(right.values()) for rate, right in found.items()}
    best = max(tried, key=lambda rate: tried[rate])
    keep(name_of(args.case, args.size, "rate"), {"rate": float(best), "validation": tried})


def run(args: argparse.Namespace) -> None:
    """All sides of each seed in turn, each in a process of its own."""
    sides = args.sides or SIDES
    rate = json.loads(name_of(args.case, args.size, "rate").read_text())["rate"] if "reference" in sides else 0.0
    for seed in args.seeds:
        with laid_out(args, seed, PER_CLASS[args.case]) as data:
            for side in sides:
                found = measured(data, side, args, seed, **({"lr": rate} if side == "reference" else {}))
                keep(name_of(args.case, args.size, seed, side), found)


def curve(args: argparse.Namespace) -> None:
    """Data efficiency: so many pictures of each class to train, and a ninth of them, at least one, to validate."""
    for each in args.each:
        for seed in args.seeds:
            with laid_out(args, seed, each + max(1, round(each / 9))) as data:
                for side in args.sides or CURVE:
                    keep(name_of("curve", args.size, each, seed, side), measured(data, side, args, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "run", "curve", "side"])
    parser.add_argument("case", nargs="?", help="a case, or with side: one of ours")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sides", nargs="+", choices=SIDES)
    parser.add_argument("--each", type=int, nargs="+", default=[5, 10, 25, 90])
    args = parser.parse_args()
    if args.what == "side":
        print(json.dumps(our_side(args.data, args.case, str(args.weights), args.size, args.seed)))
        return
    if args.what in ("rate", "run") and args.case not in PER_CLASS:
        parser.error(f"the case is one of {', '.join(PER_CLASS)}")
    {"rate": find_rate, "run": run, "curve": curve}[args.what](args)


if __name__ == "__main__":
    main()
