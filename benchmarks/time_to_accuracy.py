"""P2: wall-clock to equal test accuracy, from finished Runs: He's recipe beside another one, over several seeds.

    resight train DATA --recipe he2015-cifar --model resnet20 --out runs/line
    resight train DATA --seed 0 --out runs/ours-0        # and seeds 1, 2
    python benchmarks/time_to_accuracy.py NAME --line runs/line --ours runs/ours-0 runs/ours-1 runs/ours-2 \\
        [--target 10] [--rounds 5]

NAME says what was trained on what, such as ``fashion-mnist-full``; the result is P2-NAME.

The Runs may have been trained beside other work, so their own clocks are not used. The time of a training is counted:
updates at each picture size times the seconds of one such update, pictures validated times the seconds of one, and
every picture decoded twice (checked, then kept). These rates are measured here for both configurations in turn,
on all cores, with the Runs' own data and their own loader, augmentation and averaging. The seeds of one side share
their configuration; their accuracies are shown each, with the mean and the spread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import interleave, row, save
from resight import samples as data_sets
from resight.evaluation import accuracy
from resight.evaluation.intervals import Estimate, wilson
from resight.recipes import TrainConfig
from resight.runs import CONFIG, HISTORY, PREDICTIONS, SPLIT, Run
from resight.training.phases import size_at

WARM, TIMED, DECODED = 2, 8, 200
Rates = Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """What a finished Run says of itself. ``updates``: how many at each picture size, by side in pixels."""

    run: Run
    config: TrainConfig
    correct: int
    seen: int
    updates: Mapping[int, int]
    validations: int

    @property
    def estimate(self) -> Estimate:
        """Test accuracy in its 95 % interval."""
        return wilson(self.correct, self.seen)

    @property
    def pictures(self) -> int:
        return sum(self.updates.values()) * self.config.batch


def read(path: Path) -> Finished:
    """Raises RunError for what is not a sealed Run, SystemExit for one without a test part."""
    run = Run.open(path)
    config = TrainConfig.from_json(run.file(CONFIG).read_bytes(), CONFIG)
    with np.load(run.file(PREDICTIONS)) as arrays:
        if "test_logits" not in arrays:
            raise SystemExit(f"{path} has no test part")
        count = accuracy(arrays["test_logits"], arrays["test_labels"])
    history = [json.loads(line) for line in run.file(HISTORY).read_text("utf-8").splitlines()]
    return Finished(run, config, count.correct, count.seen, updates(config, history[-1]["step"]), len(history))


def updates(config: TrainConfig, done: int) -> dict[int, int]:
    """Updates at each picture size, of the first ``done``."""
    return dict(Counter(size_at(config, step) for step in range(done)))


def same_configuration(runs: Sequence[Finished]) -> None:
    """Raises SystemExit where the Runs differ in more than the seed."""
    plain = [run.config.model_dump(exclude={"seed": True, "data": {"path", "mean", "std"}}) for run in runs]
    for other, run in zip(plain[1:], runs[1:], strict=True):
        if other != plain[0]:
            different = [name for name in other if other[name] != plain[0][name]]
            raise SystemExit(f"{run.run.path} differs from {runs[0].run.path} in {', '.join(different)}")


def hours(finished: Finished, rates: Rates) -> float:
    """The training's wall-clock by these rates, updates and compilation, validation and decoding."""
    counts = finished.run.card.data["counts"]
    training = sum(count * rates["update"][str(size)] for size, count in finished.updates.items())
    validation = finished.validations * counts["val"] * rates["validation"]
    decoding = 2 * (counts["train"] + counts["val"]) * rates["decoding"]
    return (training + rates["compiling"] + validation + decoding) / 3600


# ── rates ──────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_rates(path: Path) -> dict[str, Any]:
    """Seconds of an update by size, of compiling all sizes, of validating a picture, of decoding one."""
    import steps
    from resight.training import reading

    finished = read(path)
    config, card = finished.config.model_copy(deep=True), finished.run.card
    config.threads = 0
    steps.use_machine()
    samples = data_sets.load(config.data.path, split_csv=finished.run.file(SPLIT))
    pictures, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    start = time.perf_counter()
    decoded = [pictures[index] for index in range(min(DECODED, len(pictures)))]
    decoding = (time.perf_counter() - start) / len(decoded)
    training = steps.training(config, len(card.classes), pictures)
    timed = {str(size): time_updates(training, size) for size in finished.updates}
    return {
        "update": {size: later for size, (later, _) in timed.items()},
        "compiling": sum(first for _, first in timed.values()) if config.compile else 0.0,
        "validation": time_validation(training, val),
        "decoding": decoding,
    }


def time_updates(training: Any, size: int) -> tuple[float, float]:
    """Seconds of one update at this size, waiting for its batch included, and what the first one took more."""
    config, count = training.config, WARM + TIMED
    first = next(step for step in itertools.count() if size_at(config, step) == size)
    last = min(first + count, config.total_steps)
    wanted = [step for step in range(first, last) if size_at(config, step) == size]
    for step in wanted:  # decoded before the clock starts
        training.loader.make(step)
    training.state.step, times = wanted[0], []
    mark = time.perf_counter()
    for batch in training.loader.batches(wanted[0], wanted[-1] + 1):
        training.update(batch)
        now = time.perf_counter()
        times.append(now - mark)
        mark = now
    later = float(np.median(times[WARM:] or times))
    return later, max(0.0, times[0] - later)


def time_validation(training: Any, val: Any, count: int = 512) -> float:
    """Seconds of one picture, decoded before the clock starts."""
    from resight.training.validate import answers

    indices = np.arange(min(count, len(val)))
    for index in indices:
        val[int(index)]
    start = time.perf_counter()
    for _ in answers(training.objective, val, indices, max(1, min(256, training.config.batch))):
        pass
    return (time.perf_counter() - start) / len(indices)


# ── the result ─────────────────────────────────────────────────────────────────────────────────────────────────


def petaflop(finished: Finished) -> float:
    """Of all updates: forward and backward, two operations for each multiply-accumulate."""
    from resight.models import count_macs
    from resight.training.prepare import build_net

    net = build_net(finished.config, len(finished.run.classes), None, lambda _: None)
    macs = sum(count * finished.config.batch * count_macs(net, size) for size, count in finished.updates.items())
    return 3 * 2 * macs / 1e15


def percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.2f} % [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def described(name: str, runs: Sequence[Finished]) -> str:
    """One line of a side: network, recipe, accuracies, work."""
    first = runs[0]
    values = [run.estimate.value for run in runs]
    spread = ""
    if len(values) > 1:
        spread = f", mean {100 * statistics.mean(values):.2f} %, deviation {100 * statistics.stdev(values):.2f}"
    sizes = ", ".join(f"{count:,} at {size} px" for size, count in sorted(first.updates.items()))
    return (
        f"{name}: {first.config.model.name}, recipe `{first.config.recipe}`, test accuracy "
        f"{'; '.join(percent(run.estimate) for run in runs)}{spread}. {sum(first.updates.values()):,} updates "
        f"({sizes}), {first.pictures / 1e6:.2f} million pictures, {petaflop(first):.2f} PFLOP."
    )


def rows(
    name: str, line: Finished, ours: Sequence[Finished], rates: Mapping[str, list[Rates]], target: float
) -> list[dict[str, Any]]:
    """The accuracy must be reached, on average over the seeds, for the time to count."""
    times = {side: [hours(one, found) for found in rates[side]] for side, one in (("ours", ours[0]), ("line", line))}
    mean = statistics.mean(run.estimate.value for run in ours)
    found = [100 * run.estimate.value for run in ours]
    verdict = "at or above" if mean >= line.estimate.value else "below"
    return [
        row(
            f"{name}: wall-clock of the training",
            ("Resight", times["ours"]),
            ("He's recipe", times["line"]),
            unit="h",
            target=target if mean >= line.estimate.value else None,  # no time counts below the line
            equal=f"ours has {100 * mean:.2f} % on average over {len(ours)} seeds, {verdict} the line of "
            f"{percent(line.estimate)}",
            more_is_better=False,
        ),
        row(
            f"{name}: mean test accuracy over the seeds",
            ("Resight", [100 * mean]),
            ("He's recipe", [100 * line.estimate.value]),
            unit="%",
            target=1.0,
            equal=f"of each seed: {', '.join(f'{value:.2f}' for value in found)}",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--line", type=Path)
    parser.add_argument("--ours", type=Path, nargs="+")
    parser.add_argument("--target", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=Path, help="measure one Run's rates (used by the program itself)")
    args = parser.parse_args()
    if args.rates:
        print(json.dumps(measure_rates(args.rates)))
        return
    if not (args.line and args.ours):
        parser.error("--line and --ours say which Runs to compare")
    line, ours = read(args.line), [read(path) for path in args.ours]
    same_configuration(ours)
    paths = {"ours": args.ours[0], "line": args.line}
    rates = interleave({side: [__file__, args.name, "--rates", path] for side, path in paths.items()}, args.rounds)
    save(
        f"P2-{args.name}",
        title=f"Wall-clock to equal test accuracy: {args.name}",
        target="P2",
        command=f"python benchmarks/time_to_accuracy.py {args.name} --line RUN --ours RUN RUN RUN "
        f"--target {args.target:g}",
        rows=rows(args.name, line, ours, rates, args.target),
        notes=[
            described("Resight", ours),
            described("He's recipe", [line]),
            "Times are counted, not clocked: updates at each size times the seconds of one, and likewise validation "
            "and decoding; the rates are measured in turn for both sides, with each Run's own data and configuration. "
            "Checkpoints and the export at the end are left out on both sides.",
        ],
    )


if __name__ == "__main__":
    main()
