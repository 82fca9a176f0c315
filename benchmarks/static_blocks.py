"""Is it the policy, or the further training? The same network with the same blocks cut for every picture, trained on.

    python benchmarks/static_blocks.py RUN DATA --keep 15 [--epochs 2] [--work FOLDER] [--out results.json]

What ``resight adapt RUN --by blocks`` learns is set against what needs no policy. Blocks are dropped one by one, each
time the one that 500 validation pictures miss least, until ``--keep`` are left, and the rest learns on for
``--epochs`` passes as the network does beside a policy (`resight.adapting.learning`: the same AdamW, rates, pictures
and teacher). The cut network is exported; accuracy on validation and test is its graph's, what is lost is paired with
RUN's own, and time is measured in turns, one by one and 16 at a time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptive import Only, graph
from common import commit, machine
from resight.adapting.dropping import without
from resight.adapting.gated import Gated
from resight.adapting.learning import RATE, SLOWER, batch_for, policy_config
from resight.adapting.timing import pace
from resight.adapting.workshop import bench
from resight.evaluation import compare_answers
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions, stored_squares
from resight.exporting.onnx import Answering, export_onnx
from resight.models import ResNet
from resight.models.from_run import network_of
from resight.recipes import TrainConfig, override
from resight.runs import CONFIG, WEIGHTS, Run
from resight.samples import load
from resight.training import prepare, reading
from resight.training.checkpoint import newest
from resight.training.distill import Distilled, Teacher
from resight.training.fit import Training
from resight.training.loader import Batch
from resight.training.objective import Logs, Objective, Supervised
from resight.training.progress import Lines

BACKEND, CHOOSERS = "onnxruntime", 500
Kept = NDArray[np.bool_]


class Static(Objective):
    """A network with the same blocks, ``kept``, bool (L,), for every picture; taught as beside a policy."""

    def __init__(self, gated: Gated, kept: Kept, config: TrainConfig, teacher: Teacher) -> None:
        super().__init__()
        self.net = cast("ResNet", gated)
        self.gated, self.row = gated, torch.from_numpy(kept)
        self.labels = Supervised(self.net, config)
        self.learned = Distilled(self.labels, teacher, config)
        self.normalize = self.labels.normalize

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        inputs = self.labels.inputs(batch)
        stem = self.gated.stem(inputs.images)
        logits = self.gated.answered(stem, self.row.expand(len(stem), -1))
        return self.learned.outcome(logits.float(), inputs, batch)


@torch.inference_mode()
def fewest_missed(gated: Gated, stem: Tensor, labels: NDArray[np.int64], keep: int) -> Kept:
    """The blocks (L,) that are left when those which these pictures miss least are dropped one by one."""
    kept = np.ones(len(gated.names), bool)

    def right(row: Kept) -> float:
        found = gated.answered(stem, torch.from_numpy(row).expand(len(stem), -1))
        return float((found.argmax(1).numpy() == labels).mean())

    while kept.sum() > keep:
        tried = {block: right(kept & (np.arange(len(kept)) != block)) for block in np.flatnonzero(kept)}
        kept[max(tried, key=lambda block: tried[block])] = False
    return kept


def trained(
    run: Run, samples: Any, keep: int, epochs: float, rate: float, work: Any, folder: Path
) -> tuple[Gated, Kept]:
    """The network after its training, which goes on from what is in ``folder``, and the blocks that it has left."""
    config = policy_config(
        run,
        TrainConfig.from_json(run.read(CONFIG), str(run.path / CONFIG)),
        epochs=epochs,
        batch=batch_for(len(samples.part("train"))),
        seed=run.card.seed,
        joint=1.0,
    )
    last = {"schedule.name": "step", "schedule.milestones": [2 / 3], "schedule.gamma": SLOWER}
    config = override(config, {"optimizer.lr": rate} | last)
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    prepare.resolve_steps(config, len(train))
    torch.manual_seed(config.seed)
    gated = Gated(network_of(run)).eval()
    chosen = np.linspace(0, len(work.pixels) - 1, min(CHOOSERS, len(work.pixels))).astype(int)
    with torch.inference_mode():
        pixels = torch.from_numpy(np.ascontiguousarray(work.pixels[chosen])).permute(0, 3, 1, 2)
        stem = gated.stem(Supervised(gated.net, config).normalize(pixels))
    kept = fewest_missed(gated, stem, work.labels[chosen], keep)
    print(f"kept: {', '.join(name for name, one in zip(gated.names, kept, strict=True) if one)}", flush=True)
    torch.nn.init.constant_(gated.policy.linear.weight, 0.0)
    gated.policy.linear.bias.data = torch.from_numpy(np.where(kept, 1.0, -1.0).astype(np.float32))
    gated.policy.requires_grad_(False)  # the loop validates by what the policy says
    asked = {"weights": run.card.files[WEIGHTS], "kept": kept.tolist(), "config": config.model_dump(mode="json")}
    begun = folder.with_name("asked.json")
    if begun.exists() and json.loads(begun.read_text()) != asked:
        raise SystemExit(f"{folder.parent} holds a training of other settings: give another --work")
    begun.write_text(json.dumps(asked))
    here = Run.open(folder, sealed=False) if folder.exists() else Run.create(folder, run.card)
    objective = Static(gated, kept, config, Teacher(run, config, run.classes))
    training = Training(here, config, objective, train, val, Lines())
    if (checkpoint := newest(here, print)) is not None:
        training.restore(checkpoint)
    training.fit()
    return gated.eval(), kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=int, required=True, help="blocks that are left, of those that can be dropped")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=SLOWER * RATE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=Path("static-blocks"), help="where it goes on after an interruption"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    run, threads = Run.open(asked.run), asked.threads
    samples = load(asked.data, split_csv=run.file("split.csv"), classes=run.classes)
    asked.work.mkdir(parents=True, exist_ok=True)
    work = bench(run, samples, BACKEND, threads, asked.work)
    gated, kept = trained(run, samples, asked.keep, asked.epochs, asked.rate, work, asked.work / "training")
    card, path = run.card, asked.work / "trained.onnx"
    export_onnx(Answering(gated.net, card.mean, card.std, 1.0), card.geometry.size, path)
    dropped = [name for name, one in zip(gated.names, kept, strict=True) if not one]
    cut = graph(asked.work, "cut", without(path.read_bytes(), dropped), threads)
    indices = positions(samples, "test")
    test = stored_squares(run, samples, indices, asked.work / "test.npy", threads)
    parts = {"val": (work.pixels, work.labels), "test": (test, samples.targets([samples.samples[i] for i in indices]))}
    # Of val, the pictures that chose the blocks are a part: what is lost is read on test.
    found: dict[str, Any] = {"dropped": dropped, "kept": int(kept.sum()), "epochs": asked.epochs, "rate": asked.rate}
    for part, (pixels, labels) in parts.items():
        whole, mine = (answers(one, pixels, ("logits",))[0].argmax(1) for one in (work.whole, cut))
        lost = compare_answers(whole, mine, labels, run.classes).overall.difference
        found[part] = {
            "n": len(labels),
            "whole": float((whole == labels).mean()),
            "accuracy": float((mine == labels).mean()),
            "lost": [lost.value, lost.low, lost.high],
        }
    found["pace"] = pace(work.whole, Only(cut), work.pixels, 1).to_dict()
    result = {"machine": machine(threads), "commit": commit(), **found}
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
