"""Learning without labels, in pieces that resume: what crops buy, what few labels gain, what is chosen, what collapses.

    python benchmarks/pretraining.py curve METHOD --data CIFAR [--crops 1000000] [--seed 0]
    python benchmarks/pretraining.py labels METHOD --data CIFAR [--share 0.01] [--seed 0] [--crops 1000000]
    python benchmarks/pretraining.py long --data CIFAR [--share 0.01] [--seed 0] [--crops 1000000]
    python benchmarks/pretraining.py each FROM --data CLOTHING [--each 5] [--seed 0] [--weights FILE|RUN]
    python benchmarks/pretraining.py suggest HOW --data CIFAR --weights RUN [--count 100] [--seed 0]
    python benchmarks/pretraining.py collapse METHOD --data CIFAR [--updates 500]
    python benchmarks/pretraining.py table

CIFAR, CLOTHING: a folder with train/CLASS and test/CLASS or val/CLASS. Runs lie in --runs (default: runs-pretraining),
and each piece's numbers in one file of benchmarks/results/pretraining; a piece that is done is not done again, and one
that was interrupted goes on from its checkpoint. Every choice (rates, changes of pictures, lengths) was made without
test pictures; k-NN and linear accuracies of ``curve`` are of the validation part that is carved from train by the seed.

``labels``: a share of the training pictures' labels, drawn by the seed from each class; a tenth of these validate.
The ladder from the pretrained Run, and `quick` from scratch; ``long``: `quick` with the crops of pretraining. Test
pictures are answered once, by the sealed Run.
``suggest``: labels for the pictures that ``resight suggest`` lists, or for a random choice; then the last layer.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import resight
from common import RESULTS, machine
from resight.errors import ResightError
from resight.runs import HISTORY, Run
from resight.samples import SampleSet, split_csv

PIECES = RESULTS / "pretraining"


def done(path: Path, begin: Any) -> Run:
    """The sealed Run at ``path``: as it is, resumed, or begun."""
    if (path / "run.json").exists():
        return resight.resume(path)
    return begin()


def history(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / HISTORY).read_text().splitlines()]


def options(args: argparse.Namespace) -> dict[str, Any]:
    """What makes the network that of --model and --stem, in any training of it."""
    return {"model.options.stem": args.stem} if args.stem else {}


def pretrained(args: argparse.Namespace) -> Run:
    path = args.runs / f"{args.method}-{args.crops}-{args.seed}"
    return done(
        path,
        lambda: resight.pretrain(
            args.data,
            method=args.method,
            model=args.model,
            crops=args.crops,
            seed=args.seed,
            workers=0,
            out=path,
            set=options(args),
        ),
    )


def curve(args: argparse.Namespace) -> dict[str, Any]:
    run = pretrained(args)
    views = run.card.pretraining["crops"] / history(run)[-1]["step"]
    return {
        "points": [
            {"crops": round(entry["step"] * views), **{k: entry.get(k) for k in ("knn", "linear", "spread", "rank")}}
            for entry in history(run)
        ],
        "seconds": history(run)[-1]["seconds"],
        "pretraining": run.card.pretraining,
    }


def some_labels(samples: SampleSet, each: int, seed: int, path: Path, chosen: set[str] | None = None) -> Path:
    """A split.csv in which ``each`` training pictures a class, or those ``chosen``, have labels; a tenth validate."""
    random, kept = np.random.default_rng(seed), {}
    pool = [sample for sample in samples.samples if sample.split != "test"]
    for label in range(len(samples.classes)):
        own = [s.source for s in pool if s.label == label]
        own = (
            [s for s in own if s in chosen]
            if chosen is not None
            else [own[k] for k in random.permutation(len(own))[:each]]
        )
        held = max(1, len(own) // 10) if len(own) > 2 else 0
        kept |= {source: "val" if place < held else "train" for place, source in enumerate(own)}
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(split_csv.COLUMNS)
        for s in samples.samples:
            part = "test" if s.split == "test" else kept.get(s.source, split_csv.SKIPPED)
            writer.writerow([s.source, "", samples.classes[s.label], part, ""])
    return path


def test_of(run: Run) -> dict[str, Any]:
    low, high = run.metrics.interval("accuracy")
    return {"top1": run.metrics.top1, "low": low, "high": high, "seconds": history(run)[-1]["seconds"]}


def few(args: argparse.Namespace) -> tuple[int, int, dict[str, Any]]:
    """Labels a class, classes, and how each side trains with these."""
    samples = resight.load(args.data, seed=0)
    args.runs.mkdir(exist_ok=True, parents=True)
    each = round(args.share * sum(s.split != "test" for s in samples.samples) / len(samples.classes))
    split = some_labels(samples, each, args.seed, args.runs / f"split-{args.share}-{args.seed}.csv")
    return each, len(samples.classes), {"split": split, "seed": args.seed, "workers": 0}


def labels(args: argparse.Namespace) -> dict[str, Any]:
    each, _, common = few(args)
    first = pretrained(args)
    ladder_at = args.runs / f"ladder-{args.method}-{args.crops}-{args.share}-{args.seed}"
    ladder = done(ladder_at, lambda: resight.train(args.data, weights=first.path, out=ladder_at, **common))
    at = args.runs / f"scratch-{args.share}-{args.seed}"
    scratch = done(
        at, lambda: resight.train(args.data, model=args.model, set=options(args), recipe="quick", out=at, **common)
    )
    return {"each": each, "ladder": test_of(ladder), "scratch": test_of(scratch)}


def long(args: argparse.Namespace) -> dict[str, Any]:
    """`quick` from scratch with as many crops as pretraining had: nearly all of what that side's network computed."""
    each, classes, common = few(args)
    epochs = round(args.crops / (0.9 * each * classes))
    at = args.runs / f"long-{args.crops}-{args.share}-{args.seed}"
    how = {"model": args.model, "set": options(args), "recipe": "quick", "epochs": epochs}
    return {
        "each": each,
        "epochs": epochs,
        "long": test_of(done(at, lambda: resight.train(args.data, out=at, **how, **common))),
    }


def each(args: argparse.Namespace) -> dict[str, Any]:
    """``clothing``: a few labels a class, from the weights that --weights names; FROM is only their name."""
    samples = resight.load(args.data, seed=0, val_fraction=0.0, test_fraction=0.0)
    folder = args.runs
    folder.mkdir(exist_ok=True, parents=True)
    # The folder val is the test part, whole.
    moved = SampleSet(
        samples.root,
        samples.classes,
        tuple(s if s.split == "train" else type(s)(s.source, s.index, s.label, "test") for s in samples.samples),
        samples.channels,
        samples.kind,
    )
    split = some_labels(moved, args.each, args.seed, folder / f"split-clothing-{args.each}-{args.seed}.csv")
    at = folder / f"clothing-{args.method}-{args.each}-{args.seed}"
    how: dict[str, Any] = {"weights": args.weights} if args.weights else {"model": args.model, "set": options(args)}
    run = done(
        at, lambda: resight.train(args.data, split=split, seed=args.seed, workers=0, image_size=64, out=at, **how)
    )
    with np.load(run.path / "predictions.npz") as found:
        right = (found["test_logits"].argmax(1) == found["test_labels"]).astype(int).tolist()
    return {**test_of(run), "right": right}


def suggest(args: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy of the last layer over a pretrained Run, with labels of suggested or random pictures."""
    samples = resight.load(args.data, seed=0)
    pool = [s for s in samples.samples if s.split == "train"]
    if args.method == "random":
        drawn = np.random.default_rng(args.seed).permutation(len(pool))[: args.count]
        chosen = {pool[k].source for k in drawn}
    else:
        drawn = np.random.default_rng(args.seed).permutation(len(pool))[: args.pool]
        paths = [samples.path(pool[k]) for k in drawn]
        listed = resight.suggest(paths, weights=args.weights, count=args.count, seed=args.seed)
        names = {str(samples.path(pool[k])): pool[k].source for k in drawn}
        chosen = {names[item.source] for item in listed.found}
    split = some_labels(samples, 0, args.seed, args.runs / f"split-{args.method}-{args.count}-{args.seed}.csv", chosen)
    at = args.runs / f"suggest-{args.method}-{args.count}-{args.seed}"
    how = {"weights": args.weights, "recipe": "features", "seed": args.seed, "workers": 0, "split": split}
    return test_of(done(at, lambda: resight.train(args.data, out=at, **how)))


class Enough(Exception):
    """Enough is known."""


def collapse(args: argparse.Namespace) -> dict[str, Any]:
    """Looks at the spread and rank of projections every 10 updates: with the gradient stopped, and without."""
    return {name: looked(args, name, stopped) for name, stopped in (("made", False), ("healthy", True))}


def looked(args: argparse.Namespace, name: str, stopped: bool) -> dict[str, Any]:
    """The first updates of a long pretraining, until its answers collapse or ``--updates`` are done."""
    from resight.commands import pretrain, resume
    from resight.training.progress import reporter

    at, report = args.runs / f"collapse-{args.method}-{name}", reporter()
    wishes = {"model.name": args.model, "pretrain.stop_gradient": stopped, "pretrain.watch_steps": 10, "batch": 64}
    wishes |= options(args) | {
        "data.workers": 0,
        "total_steps": 10 * args.updates,
        "pretrain.views": 2,
        "seed": args.seed,
    }
    if not (at / "run.json").exists():
        pretrain.start(args.data, args.method, wishes, None, False, at, report.say)
    looks: list[Any] = []

    def observe(training: Any) -> None:
        training.objective.watch.seen = looks
        step = training.report.step

        def stepped(done: int, loss: float, rate: float) -> None:
            step(done, loss, rate)
            if any(look.collapsed for look in looks[1:]) or done >= args.updates:
                raise Enough

        training.report.step = stepped

    with contextlib.suppress(Enough):
        resume.finish(at, report, to_seal=False, observe=observe)
    fired = [look.step for look in looks[1:] if look.collapsed]
    return {"fired": fired[0] if fired else None, "looks": [[look.step, look.spread, look.rank] for look in looks]}


def table() -> None:
    for path in sorted(PIECES.glob("*.json")):
        plain = json.loads(path.read_text())
        print(path.stem, json.dumps({k: v for k, v in plain.items() if k not in ("machine", "right")})[:2000])


STEPS = {"curve": curve, "labels": labels, "long": long, "each": each, "suggest": suggest, "collapse": collapse}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=[*STEPS, "table"])
    parser.add_argument("method", nargs="?", default="simclr", help="a method; of each: a name; of suggest: how")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--stem", help="of the network, where not its own: tiny has a stride of 2")
    parser.add_argument("--crops", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--pool", type=int, default=5000)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs-pretraining"))
    args = parser.parse_args()
    if args.step == "table":
        table()
        return
    sizes = {
        "curve": [args.crops],
        "labels": [args.crops, args.share],
        "long": [args.crops, args.share],
        "each": [args.each],
        "suggest": [args.count],
    }
    name = "-".join(map(str, [args.step, args.method, *sizes.get(args.step, []), args.seed]))
    PIECES.mkdir(parents=True, exist_ok=True)
    path = PIECES / f"{name}.json"
    if path.exists():
        return
    start = time.process_time()
    found = STEPS[args.step](args)
    plain = {"machine": machine(), "processor_seconds": time.process_time() - start, **found}
    path.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ResightError as error:
        raise SystemExit(str(error)) from error
