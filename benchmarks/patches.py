"""Which tiles to look at: a policy learned by reinforcement, the tiles with most detail, and tiles drawn at random.

On the Run of `tiles.py`, or on any other that cuts pictures into tiles, with its own data:

    python benchmarks/patches.py facts --run RUN --work W          looks at all tiles of all parts once, and keeps it
    python benchmarks/patches.py rules --run RUN --work W --seeds 0 1 2 --epochs 30

What the network says of every tile is known then, so a policy is learned and every choice is answered without it.
Each rule's share of tiles is chosen on validation (at most --max-drop points lost, there and with every larger share).
The test part is answered with every share, for the curves, and chooses nothing here. Differences to all tiles are
paired (Newcombe 1998). The policy is the one of ``resight adapt --by patches``, from three seeds. It says accuracy
only: how long each takes, `adapt` measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resight.adapting.learning import policy_config
from resight.adapting.patches.curve import SHARES, answered, curve, mean_curve, operating_point
from resight.adapting.patches.facts import Facts, drawn, facts_of, load_facts
from resight.adapting.patches.learning import BATCH, EPOCHS, learn_to_look, look_config
from resight.adapting.patches.policy import LookSettings, TileCosts, scores_of
from resight.commands.own_data import load_own
from resight.evaluation import compare_answers
from resight.inference import Predictor
from resight.inference.patches import detail
from resight.recipes import TrainConfig
from resight.runs import CONFIG, Run
from resight.training.progress import Lines

PARTS = ("train", "val", "test")
COSTS = TileCosts(1e-5, 1e-3)
"""A policy's look at a tile counts a hundredth of the network's."""
DRAWINGS = 20


def facts(run: Run, work: Path) -> None:
    samples, settings = load_own(run), LookSettings()
    predictor = Predictor(run, backend="onnxruntime", threads=1)
    for part in PARTS:
        if not (work / f"{part}.npz").exists():
            facts_of(predictor, samples, part, settings.tile, settings.side, print).save(work / f"{part}.npz")


def rules(run: Run, work: Path, seeds: list[int], epochs: float, max_drop: float) -> dict[str, Any]:
    known = {part: load_facts(work / f"{part}.npz") for part in PARTS}
    scores: dict[str, dict[str, list[Any]]] = {part: {} for part in PARTS}
    for part, of in known.items():
        scores[part]["attention (looks at all)"] = list(of.attention)
        scores[part]["detail"] = [detail(one, LookSettings().tile) for one in of.windows]
    for seed in seeds:
        begun = time.process_time()
        policy, normalize = learned(run, work / f"seed-{seed}", known, seed, epochs)
        print(f"seed {seed}: {time.process_time() - begun:.0f} s of processor time")
        for part, of in known.items():
            scores[part][f"policy, seed {seed}"] = scores_of(policy, normalize, of)
    found: dict[str, Any] = {"shares": SHARES, "whole": {part: accuracy(of, of.whole()) for part, of in known.items()}}
    found["curves"] = {
        part: {name: [p.accuracy for p in curve(of, own)] for name, own in scores[part].items()}
        | {"random": [p.accuracy for p in mean_curve([curve(of, drawn(of, k)) for k in range(DRAWINGS)])]}
        for part, of in known.items()
    }
    found["chosen"] = {}
    for name in scores["val"]:
        point = operating_point(curve(known["val"], scores["val"][name]), found["whole"]["val"], max_drop)
        share = 1.0 if point is None else point.share
        found["chosen"][name] = {"share": share} | {
            part: against_all(run, known[part], answered(known[part], scores[part][name], share))
            for part in ("val", "test")
        }
    return found


def learned(run: Run, folder: Path, known: dict[str, Facts], seed: int, epochs: float) -> Any:
    """In a copy of the Run's folder without its artefacts, which holds the training."""
    if not folder.exists():
        shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("artifacts", "checkpoints", "report.html"))
    copy = Run.open(folder, verify=False)
    config = TrainConfig.from_json(copy.read(CONFIG), CONFIG)
    config = look_config(policy_config(copy, config, epochs=epochs, batch=BATCH, seed=seed, joint=1.0))
    parts = known["train"], known["val"]
    found = learn_to_look(
        copy, load_own(run), parts, config, LookSettings(), "patches", lambda: COSTS, Lines(), {"threads": 1}
    )
    return found.policy, found.normalize


def accuracy(of: Facts, logits: Any) -> float:
    return float((logits.argmax(axis=1) == of.labels).mean())


def against_all(run: Run, of: Facts, logits: Any) -> dict[str, Any]:
    before, after = of.whole().argmax(axis=1), logits.argmax(axis=1)
    lost = compare_answers(before, after, of.labels, run.classes).overall.difference
    return {"accuracy": accuracy(of, logits), "lost": asdict(lost)}


def table(found: dict[str, Any]) -> str:
    lines = []
    for part in PARTS:
        lines.append(f"{part}: all tiles {100 * found['whole'][part]:.1f} %")
        lines.append(f"{'tiles, %':26}" + "".join(f"{100 * share:6.3g}" for share in found["shares"]))
        for name, values in found["curves"][part].items():
            lines.append(f"{name:26}" + "".join(f"{100 * value:6.1f}" for value in values))
    for name, one in found["chosen"].items():
        for part in ("val", "test"):
            lost = {key: 100 * one[part]["lost"][key] for key in ("value", "low", "high")}
            lines.append(
                f"{name:26}{100 * one['share']:5.1f} % of the tiles, {part}: {100 * one[part]['accuracy']:.1f} %, lost "
                f"{lost['value']:+.1f} [{lost['low']:+.1f}, {lost['high']:+.1f}] points"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["facts", "rules"])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--max-drop", type=float, default=0.5)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    run = Run.open(asked.run, verify=False)
    if asked.step == "facts":
        facts(run, asked.work)
        return
    found = rules(run, asked.work, asked.seeds, asked.epochs, asked.max_drop)
    (asked.work / "rules.json").write_text(json.dumps(found, indent=1), "utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
