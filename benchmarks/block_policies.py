"""What policies over blocks are worth on the test part: one Run for each seed, beside chance of equal cost.

    python benchmarks/block_policies.py DATA RUN [RUN …] [--threads 1] [--out results.json]

Each RUN has the artefact ``blocks`` (``resight adapt RUN DATA --by blocks --seed N``), made of copies of one network.
Printed for each: accuracy, what is lost against the whole network (paired, 95 %), which routes test pictures take, how
many are right if as many are sent to each route by chance (20 draws), and the time beside the whole network, in turns,
of validation pictures that are mixed as all are, one by one and 16 at a time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import commit, machine
from resight.adapting.timing import pace
from resight.adapting.workshop import bench
from resight.evaluation import compare_answers
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions, stored_squares
from resight.inference import open_backend
from resight.inference.plan import open_route, read_plan
from resight.runs import Run, open_artifact
from resight.samples import load

DRAWS, BACKEND = 20, "onnxruntime"


def measured(run: Run, data: Path, threads: int, folder: Path) -> dict[str, Any]:
    samples = load(data, split_csv=run.file("split.csv"), classes=run.classes)
    work = bench(run, samples, BACKEND, threads, folder)
    indices = positions(samples, "test")
    test = stored_squares(run, samples, indices, folder / "test.npy", threads)
    truth = samples.targets([samples.samples[i] for i in indices])
    artifact = open_artifact(run, "blocks")
    plan = read_plan(artifact.graph, artifact.sha256)
    policy = open_backend("adaptive", artifact.graph, threads, sha256=artifact.sha256)
    taken, logits = answers(policy, test, ("route", "logits"))
    (whole,) = answers(work.whole, test, ("logits",))
    lost = compare_answers(whole.argmax(1), logits.argmax(1), truth, run.classes).overall.difference
    each = np.stack(
        [
            answers(open_route(artifact.graph.parent, route, threads), test, ("logits",))[0].argmax(1)
            for route in plan.routes
        ]
    )
    random = np.random.default_rng(0)
    by_chance = [
        (each[random.permutation(taken.astype(int)), np.arange(len(truth))] == truth).mean() for _ in range(DRAWS)
    ]
    settings = artifact.card.adaptive["settings"]
    return {
        "run": run.path.name,
        "penalty": settings["penalty"],
        "blocks": {name: int(sum(row)) for name, row in artifact.card.adaptive["policies"].items()},
        "whole": float((whole.argmax(1) == truth).mean()),
        "accuracy": float((logits.argmax(1) == truth).mean()),
        "lost": [lost.value, lost.low, lost.high],
        "validation": artifact.card.adaptive["lost"]["val"],
        "shares": {route.name: float((taken == k).mean()) for k, route in enumerate(plan.routes)},
        "alone": {route.name: float((each[k] == truth).mean()) for k, route in enumerate(plan.routes)},
        "by_chance": [float(np.mean(by_chance)), float(np.std(by_chance))],
        "test": len(truth),
        "pace": pace(work.whole, policy, work.pixels, len(plan.routes)).to_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for path in asked.runs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(Run.open(path), asked.data, asked.threads, Path(folder)))
    result = {"machine": machine(asked.threads), "commit": commit(), "rows": rows}
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
