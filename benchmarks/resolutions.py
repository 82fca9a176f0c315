"""Trained small and answered larger, with and without FixRes, and sizes that grow, beside one fixed size.

    python benchmarks/resolutions.py DATA [--seeds 0 1 2] [--only SIDE …] [--model resnet20] [--epochs 20]
    python benchmarks/resolutions.py --table

DATA holds train/CLASS and test/CLASS or val/CLASS, whose pictures are the test part, whole; a tenth of train, by the
seed, is for validation. A network by `quick` from scratch, with ImageNet's stem at every size, answered at 96 px by all
sides but the last. Each piece (side, seed) is a file in results/resolutions, so that it can be made in parts; the table
pairs every side with `fixed`, by the picture. Seconds are processor time of the whole command, one thread: other
programs disturb the clock more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, machine

PIECES = RESULTS / "resolutions"
ANSWERED = 96
SIDES: dict[str, dict[str, Any]] = {
    "fixed": {},
    "small": {"data.train_size": 64},
    "fixres": {"data.train_size": 64, "data.fix_share": 0.1},
    "growing": {"data.start_scale": 0.5},
    "small throughout": {"data.image_size": 64},
}


def train(data: Path, side: str, seed: int, model: str, epochs: float) -> None:
    import resight
    from resight.runs.predictions import stored

    settings = {"data.image_size": ANSWERED, "data.start_scale": 1.0, "model.options.stem": "imagenet", **SIDES[side]}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RESIGHT_CACHE"] = str(Path(folder) / "cache")  # no side finds pictures that another one decoded
        begun = time.process_time()
        run = resight.train(
            laid_out(data, Path(folder) / "data"), model=model, recipe="quick", epochs=epochs, seed=seed,
            device="cpu", set={**settings, "threads": 1}, out=Path(folder) / "run",
        )  # fmt: skip
        seconds = time.process_time() - begun
        found = stored(run, "test")
    assert found is not None
    plain = {"side": side, "seed": seed, "model": model, "epochs": epochs, "seconds": seconds, "machine": machine(1)}
    plain |= {"labels": found.labels.tolist(), "answers": found.logits.argmax(1).tolist(), "classes": list(run.classes)}
    PIECES.mkdir(parents=True, exist_ok=True)
    path(side, seed).write_text(json.dumps(plain) + "\n")


def laid_out(data: Path, folder: Path) -> Path:
    """``train`` and ``test`` as folders, copied from DATA."""
    folder.mkdir()
    test = data / "test" if (data / "test").is_dir() else data / "val"
    for name, source in (("train", data / "train"), ("test", test)):
        (folder / name).mkdir()
        for one in source.iterdir():
            if one.is_dir():
                (folder / name / one.name).mkdir()
                for file in one.iterdir():
                    shutil.copyfile(file, folder / name / one.name / file.name)
    return folder


def path(side: str, seed: int) -> Path:
    return PIECES / f"{side.replace(' ', '-')}-{seed}.json"


def table() -> str:
    """Accuracy of each side, its difference to `fixed` on the same pictures, and its cost beside it."""
    from resight.evaluation import compare_answers

    lines = ["| | seeds | accuracy | difference to `fixed`, each seed | processor time, `fixed` to it |"]
    lines.append("|---|---|---|---|---|")
    for side in SIDES:
        pieces = [json.loads(file.read_text()) for file in sorted(PIECES.glob(f"{side.replace(' ', '-')}-[0-9]*.json"))]
        if not pieces:
            continue
        shares = [statistics.mean(a == b for a, b in zip(p["answers"], p["labels"], strict=True)) for p in pieces]
        words, costs = [], []
        for piece in pieces:
            base = json.loads(path("fixed", piece["seed"]).read_text())
            paired = compare_answers(piece["answers"], base["answers"], piece["labels"], piece["classes"]).overall
            low, value, high = (100 * getattr(paired.difference, name) for name in ("low", "value", "high"))
            words.append(f"{value:+.1f} [{low:+.1f}, {high:+.1f}]")
            costs.append(base["seconds"] / piece["seconds"])
        cells = [side, str(len(pieces)), ", ".join(f"{100 * share:.1f} %" for share in shares)]
        cells += ["" if side == "fixed" else ", ".join(words), ", ".join(f"{cost:.2f}" for cost in costs)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_fixed_after()])


def _fixed_after() -> list[str]:
    """`fixres` beside `small`: the same size, without the updates that fit the last part to what is answered."""
    from resight.evaluation import compare_answers

    lines = []
    for file in sorted(PIECES.glob("fixres-[0-9]*.json")):
        piece = json.loads(file.read_text())
        other = path("small", piece["seed"])
        if other.is_file():
            base = json.loads(other.read_text())
            found = compare_answers(
                piece["answers"], base["answers"], piece["labels"], piece["classes"]
            ).overall.difference
            low, value, high = (100 * getattr(found, name) for name in ("low", "value", "high"))
            lines.append(f"`fixres` − `small`, seed {piece['seed']}: {value:+.1f} [{low:+.1f}, {high:+.1f}]")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", default=list(SIDES))
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--table", action="store_true", help="print what is there")
    args = parser.parse_args()
    if args.table or args.data is None:
        print(table())
        return
    for seed in args.seeds:
        for side in args.only:
            if not path(side, seed).is_file():
                train(args.data, side, seed, args.model, args.epochs)


if __name__ == "__main__":
    main()
