"""Which network that adapts? A cascade beside what costs as much and does not choose: one table on the test part.

    python benchmarks/adaptive.py RUN SMALL DATA [--max-drop 0.5] [--threads 1] [--out results.json]

RUN: the whole network; SMALL: a smaller Run of the same classes; DATA: with validation and test parts that neither
has learned from. Everything that is fitted is fitted on validation: temperatures, thresholds, which blocks are dropped.
The test part is answered once by each side. All sides compute with onnxruntime.

- whole, small: one network for every picture;
- cascade: SMALL first, RUN where it is unsure (``resight adapt --by cascade``);
- random: as many pictures go on as in the cascade, drawn at random: mean and spread of 20 draws;
- pruned: RUN without the blocks that validation misses least, dropped one by one until it costs what the cascade does;
  nothing is trained again;
- early exit: RUN cut after a stage, with a linear head there (frozen maps of training pictures, logistic regression)
  that answers where it is sure; the others go on from the cut. Every stage is tried, the maps averaged to 1 × 1 and to
  4 × 4; that with the least expected time on validation within the budget is the side, the others are in ``exits``;
- blocks: the artefact ``blocks`` of RUN, where it has one (``resight adapt --by blocks``).

Time is measured as ``resight adapt`` does: on validation pictures mixed as all are, the side and the whole network
taking turns, one by one and 16 at a time; ratios of 7 rounds. Runs on one core as well: ``taskset -c 0``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import commit, machine
from early_exit import tried
from resight.adapting.cascade import Two, curve, operating_point
from resight.adapting.dropping import blocks_of, without
from resight.adapting.timing import Pace, pace
from resight.adapting.workshop import bench, opened, written
from resight.errors import RunError
from resight.evaluation import compare_answers, fit_temperature
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions, stored_squares
from resight.exporting.int8.speed import measure_rates
from resight.inference import Backend, open_backend
from resight.inference.backend import Floats, Pixels
from resight.inference.plan import Plan
from resight.runs import ONNX, Run, artifact_names, open_artifact
from resight.samples import load

DRAWS = 20
BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Side:
    """predicted: int (N,), classes on test. share: of the pictures that went all the way; None: no choice is made."""

    name: str
    predicted: np.ndarray
    backend: Backend | None
    share: float | None = None
    note: str = ""


class Only:
    """One graph under the interface that is timed: every picture takes the only route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        asked = [name for name in outputs if name != "route"]
        found = dict(zip(asked, self._backend.answer(pixels, asked), strict=True)) if asked else {}
        return [found[name] if name in found else np.zeros(len(pixels), np.float32) for name in outputs]


def graph(folder: Path, name: str, data: bytes, threads: int) -> Backend:
    route = written(folder, name, data, BACKEND)
    return open_backend(BACKEND, folder / route.graph, threads, sha256=route.sha256)


def pruned(
    run: Run,
    pixels: Pixels,
    labels: np.ndarray,
    aim: float,
    seconds: Callable[[Backend], float],
    folder: Path,
    threads: int,
) -> tuple[Backend, list[str]]:
    """Drops the block that validation misses least, again and again, until a picture takes ``aim`` seconds."""
    import onnx

    data, dropped = run.read(ONNX), []
    best = graph(folder, "pruned", data, threads)
    names = list(blocks_of(onnx.load_model_from_string(data)))
    while seconds(best) > aim:
        tried = []
        for name in [one for one in names if one not in dropped]:
            try:
                backend = graph(folder, "tried", without(data, [*dropped, name]), threads)
                (logits,) = answers(backend, pixels, ("logits",))
            except (RunError, onnx.shape_inference.InferenceError):  # a block that changes shapes
                names.remove(name)
                continue
            tried.append((float((logits.argmax(1) == labels).mean()), name, backend))
        if not tried:
            break
        _, name, best = max(tried, key=lambda one: one[:2])
        dropped.append(name)
    return best, dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=500, help="validation pictures that choose the pruned blocks")
    parser.add_argument("--exit-pictures", type=int, default=5000, help="training pictures that fit the exits' heads")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of these")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run, small, threads = Run.open(asked.run), Run.open(asked.small), asked.threads
    samples = load(asked.data, split_csv=run.file("split.csv"), classes=run.classes)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        work = bench(run, samples, BACKEND, threads, folder)
        indices = positions(samples, "test")
        test = stored_squares(run, samples, indices, folder / "test.npy", threads)
        truth = samples.targets([samples.samples[i] for i in indices])
        exits: list[dict[str, Any]] = []
        rows = sides(work, small, test, asked, folder)
        rows += early(work, test, asked, folder, exits)
        table = [line(side, rows[0].predicted, truth, work, run) for side in rows]
    result = {"machine": machine(threads), "commit": commit(), "test": len(truth), "rows": table, "exits": exits}
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2))


def sides(work: Any, small: Run, test: Pixels, asked: Any, folder: Path) -> list[Side]:
    run, threads = work.run, asked.threads
    first = graph(folder, "small", small.read(ONNX), threads)
    logits = {
        name: (answers(backend, work.pixels, ("logits",))[0], answers(backend, test, ("logits",))[0])
        for name, backend in (("small", first), ("whole", work.whole))
    }
    rates = measure_rates({"small": first, "whole": work.whole}, work.shape)
    seconds = {name: 1 / rate.one for name, rate in rates.items()}
    two = Two.of(logits["small"][0], logits["whole"][0], work.labels, (seconds["small"], seconds["whole"]))
    point = operating_point(curve(two), work.accuracy, asked.max_drop)
    whole, own = (logits[name][1].argmax(1) for name in ("whole", "small"))
    found = [Side("whole", whole, work.whole), Side("small", own, Only(first))]
    if point is None:
        return found
    routes = (
        written(folder, "first", small.read(ONNX), BACKEND, two.temperatures[0]),
        written(folder, "last", run.read(ONNX), BACKEND, two.temperatures[1]),
    )
    plan = Plan(routes, (point.threshold,), temperature=fit_temperature(two.logits(point.threshold), work.labels))
    backend = opened(folder, plan, threads)
    route, answered = answers(backend, test, ("route", "logits"))
    share = float((route == 1).mean())
    found.append(Side("cascade", answered.argmax(1), backend, share))
    random = np.random.default_rng(0)
    for _ in range(DRAWS):
        on = random.random(len(test)) < share
        found.append(Side("random", np.where(on, whole, own), None, share))
    most = min(asked.most, len(work.pixels))
    chosen = np.linspace(0, len(work.pixels) - 1, most).astype(int)
    timed = {"whole": work.whole}

    def measured(backend: Backend) -> float:
        rates = measure_rates(timed | {"this": backend}, work.shape, rounds=3)
        return seconds["whole"] * rates["whole"].one / rates["this"].one

    static, dropped = pruned(run, work.pixels[chosen], work.labels[chosen], point.seconds, measured, folder, threads)
    predicted = answers(static, test, ("logits",))[0].argmax(1)
    found.append(Side("pruned", predicted, Only(static), note=f"without {', '.join(dropped) or 'nothing'}"))
    if "blocks" in artifact_names(run):
        artifact = open_artifact(run, "blocks")
        policy = open_backend("adaptive", artifact.graph, threads, sha256=artifact.sha256)
        route, answered = answers(policy, test, ("route", "logits"))
        found.append(Side("blocks", answered.argmax(1), policy, float((route == route.max()).mean())))
    return found


def early(work: Any, test: Pixels, asked: Any, folder: Path, told: list[dict[str, Any]]) -> list[Side]:
    """The quickest early exit within the budget, if there is one. told: gets a line for each that was tried."""
    indices = positions(work.samples, "train")
    drawn = np.sort(np.random.default_rng(asked.seed).permutation(len(indices))[: asked.exit_pictures])
    chosen = [indices[k] for k in drawn]
    pixels = stored_squares(work.run, work.samples, chosen, folder / "train.npy", asked.threads)
    labels = work.samples.targets([work.samples.samples[i] for i in chosen])
    best: tuple[float, Side] | None = None
    for name, parts, point, accuracy in tried(work, (pixels, labels), asked.max_drop, folder, asked.seed):
        row = {"exit": name, "alone": accuracy, "point": None if point is None else asdict(point)}
        told.append(row | {"whole": work.accuracy})
        if point is not None and (best is None or point.seconds < best[0]):
            route, logits = answers(parts, test, ("route", "logits"))
            best = point.seconds, Side("early exit", logits.argmax(1), parts, float((route == 1).mean()), name)
    return [] if best is None else [best[1]]


def line(side: Side, whole: np.ndarray, truth: np.ndarray, work: Any, run: Run) -> dict[str, Any]:
    lost = compare_answers(whole, side.predicted, truth, run.classes).overall.difference
    plain: dict[str, Any] = {
        "side": side.name,
        "accuracy": float((side.predicted == truth).mean()),
        "lost": [lost.value, lost.low, lost.high],
        "share": side.share,
        "note": side.note,
    }
    if side.backend is not None and side.name != "whole":
        routes = 1 if isinstance(side.backend, Only) else 2
        routes = len(side.backend.plan.routes) if hasattr(side.backend, "plan") else routes
        measured: Pace = pace(work.whole, side.backend, work.pixels, routes)
        plain["pace"] = measured.to_dict()
    return plain


if __name__ == "__main__":
    main()
