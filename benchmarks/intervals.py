"""Do 95 % intervals contain the truth 95 times in 100? A simulation of evaluations whose truth is known.

    python benchmarks/intervals.py [--repeats 300]

Networks are simulated: logits are standard normal, that of the true class is raised by a fixed amount, all are
multiplied by a number that sets how confident the network is. The truth is the metric on 100,000 pictures, 10,000 where
there are 100 classes. Each repeat draws n pictures, evaluates them with `resight.evaluation.evaluate`, and looks
whether each interval holds the truth. Per-class metrics are those of the first class, which is the rarest where
classes are unequal. Prints the table and keeps it in results/simulated/intervals.json.
300 repeats have a standard error of 1.3 points at 95 %.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.evaluation import Estimate, Evaluation, evaluate

TRUTH = 100_000
METRICS = ("accuracy", "top5", "macro_precision", "macro_recall", "macro_f1", "auroc", "average_precision")
CONFIDENCE = ("log_loss", "brier", "ece", "aurc")
OF_A_CLASS = ("precision", "recall", "f1", "auroc", "average_precision")


@dataclass(frozen=True)
class Case:
    """``lift``: how far the true class's logit is raised. ``sharpness``: 1 times ``lift`` is calibrated.
    ``skew``: the most frequent class is so many times as frequent as the rarest.
    """

    classes: int
    lift: float
    sharpness: float = 1.0
    skew: float = 1.0

    def draw(self, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        share = np.geomspace(1, self.skew, self.classes)
        labels = random.choice(self.classes, size=n, p=share / share.sum())
        logits = random.standard_normal((n, self.classes), dtype=np.float32)
        logits[np.arange(n), labels] += self.lift
        return logits * np.float32(self.lift * self.sharpness), labels


CASES = {
    "2 classes, 84 % right": Case(2, 1.4),
    "2 classes, 98 % right, overconfident": Case(2, 2.9, 1.5),
    "10 classes, 82 % right": Case(10, 2.5),
    "10 classes, 97 % right, overconfident": Case(10, 3.6, 1.5),
    "10 classes, 1 to 10, 82 % right": Case(10, 2.5, 1.0, 10),
    "100 classes, 71 % right": Case(100, 3.1),
}
SIZES = (50, 200, 1000)


def estimates(found: Evaluation) -> dict[str, Estimate | None]:
    named: dict[str, Estimate | None] = {name: found.metrics.get(name) for name in (*METRICS, *CONFIDENCE)}
    return named | {f"{name} of a class": getattr(found.per_class[0], name) for name in OF_A_CLASS}


def coverage(case: Case, n: int, repeats: int, truth: dict[str, float]) -> dict[str, list[int]]:
    """For each metric: how often the interval contained the truth, and in how many repeats there was one."""
    names = [str(k) for k in range(case.classes)]
    hits = {name: [0, 0] for name in truth}
    for repeat in range(repeats):
        random = np.random.default_rng([n, case.classes, repeat])
        found = estimates(evaluate(*case.draw(n, random), names, seed=repeat))
        for name, true in truth.items():
            estimate = found[name]
            if estimate is not None:
                hits[name][0] += estimate.low <= true <= estimate.high
                hits[name][1] += 1
    return hits


def true_values(case: Case) -> dict[str, float]:
    found = evaluate(
        *case.draw(TRUTH // (10 if case.classes > 10 else 1), np.random.default_rng(7)),
        [str(k) for k in range(case.classes)],
    )
    return {name: estimate.value for name, estimate in estimates(found).items() if estimate is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    rows: list[dict[str, Any]] = []
    for title, case in CASES.items():
        truth = true_values(case)
        for n in SIZES:
            hits = coverage(case, n, repeats, truth)
            shares = {name: round(100 * h / k, 1) if k else None for name, (h, k) in hits.items()}
            rows.append({"case": title, "n": n, "accuracy": truth["accuracy"], "coverage": shares})
            print(f"{title}, n = {n}: " + ", ".join(f"{name} {share}" for name, share in shares.items()), flush=True)
    result = {"command": f"python benchmarks/intervals.py --repeats {repeats}", "repeats": repeats, "rows": rows}
    (Path(__file__).parent / "results" / "simulated" / "intervals.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
