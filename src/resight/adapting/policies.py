"""``--by blocks``: a policy, learned by reinforcement, sends each picture to one of a few sub-networks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resight.adapting.cascade import plain_points
from resight.adapting.cascades import Adapted
from resight.adapting.figure import save_curves
from resight.adapting.gated import droppable
from resight.adapting.graphs import graph_of, opened
from resight.adapting.learning import learn
from resight.adapting.reinforce import PolicySettings
from resight.adapting.rewards import Costs
from resight.adapting.routing import Search
from resight.adapting.subnetworks import Int8, Parts, int8_of
from resight.adapting.table import GOOD, to_text
from resight.adapting.timing import Pace, pace
from resight.adapting.tried import Tried, judged, tried
from resight.adapting.workshop import MAX_DROP, bench, check_budget, finish
from resight.exporting.int8.speed import Rates, measure_rates
from resight.inference import Backend
from resight.models.from_run import network_of
from resight.recipes import TrainConfig
from resight.runs import ONNX, Run, drafted
from resight.samples import SampleSet

ONE_FOR_ALL = "every picture takes the same route: the policy chooses nothing, what is gained is a smaller network's"


def measure_costs(run: Run, parts: Parts, rating: Callable[..., dict[str, Rates]] = measure_rates) -> Costs:
    """The seconds of each block that can be dropped, as measured here for single pictures: those of a stage are alike,
    and are what the network is quicker without them, shared out. With ``parts`` of int8 these are int8's seconds.
    """
    data, names = run.read(ONNX), droppable(network_of(run))
    stages = sorted({name.partition(".")[0] for name in names})
    sides: dict[str, Backend] = {"whole": parts.made("whole", data, [], roughly=True).backend}
    for stage in stages:
        dropped = [name for name in names if name.startswith(f"{stage}.")]
        sides[stage] = parts.made(stage, data, dropped, roughly=True).backend
    size = run.card.geometry.size
    rates = rating(sides, (size, size, run.card.channels))
    whole = 1 / rates["whole"].one
    each = {}
    for stage in stages:
        count = sum(name.startswith(f"{stage}.") for name in names)
        each[stage] = max(0.0, whole - 1 / rates[stage].one) / count
    blocks = tuple(each[name.partition(".")[0]] for name in names)
    return Costs(max(whole - sum(blocks), 0.0), blocks)


def blocks(
    run: Run,
    samples: SampleSet,
    config: TrainConfig,
    *,
    name: str,
    settings: PolicySettings,
    report: Any,
    artifact: str | None = None,
    max_drop: float = MAX_DROP,
    backend: str = "onnxruntime",
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    timing: Callable[..., Pace] = pace,
    rating: Callable[..., dict[str, Rates]] = measure_rates,
) -> Adapted:
    """Learns a policy with ``config``, or goes on with one that was begun, and makes the artefact ``name`` of its most
    frequent choices and the Run's own network. artifact: an int8 artefact of the Run that answers instead of its own
    graph; sub-networks are then quantized in the same way, and what is lost is counted against the Run's own in fp32.

    Raises AdaptationError where nothing is both within ``max_drop`` points and faster than the Run's own graph and the
    artefact alone, ParityError where a sub-network in fp32 answers otherwise than in PyTorch; Interrupted after a
    signal, the state saved; what `int8_of`, `bench`, `Parts.of`, `drafted` and `learning.learn` raise.
    """
    check_budget(max_drop)
    int8 = None if artifact is None else int8_of(run, artifact, backend)
    with ExitStack() as held:
        draft = held.enter_context(drafted(run, name))
        folder = Path(held.enter_context(TemporaryDirectory()))
        say("answering the validation part with the whole network …")
        work = bench(run, samples, backend, threads, folder)
        parts = Parts.of(run, samples, backend, threads, folder, int8)
        if int8 is None:
            last = Tried(replace(graph_of(run, None, backend), name="whole"), work.whole, work.logits)
        else:
            last = tried(work, replace(int8.graph, name=f"whole-{int8.graph.precision}"), say)
        learned = learn(
            *(run, samples, config, settings, name),
            lambda: measure_costs(run, parts, rating),
            report,
            conditions(backend, threads, int8),
        )
        found = Search(work, parts, last, learned, say, rating)
        made = found.best(max_drop)
        if made is None:
            say(to_text(found.rows, None))
            raise found.refused(max_drop)
        routes, point, policies = made
        plan, graphs = found.plan(routes, point, policies, draft)
        row, measured, beside = judged(
            found.rows[-1], work, last, opened(draft, plan, threads), len(plan.routes), timing
        )
        found.rows[-1] = row
        if row.verdict != GOOD:
            say(to_text(found.rows, None))
            raise found.refused(max_drop)
        say(to_text(found.rows, len(found.rows) - 1))
        notes = [ONE_FOR_ALL] if max(row.shares) == 1 else []
        for note in notes:
            say(note)
        curves = {"the policy": found.curves[len(policies)]}
        seconds = found.seconds["whole"]
        words = f"the policy, {100 * point.on:.0f} % by the whole network"
        save_curves(draft / "curve.png", curves, "whole", work.accuracy, seconds, words, point)
        learned.save(draft)
        about = {
            "rule": "blocks",
            "max_drop": max_drop,
            "bias": point.threshold,
            "blocks": list(learned.gated.names),
            "policies": {
                route.name: row.astype(int).tolist() for route, row in zip(plan.routes, policies, strict=False)
            },
            "settings": asdict(settings),
            "costs": asdict(learned.costs),
            "history": learned.history,
            "curves": {"the policy": plain_points(curves["the policy"])},
            "whole": {"name": "whole", "accuracy": work.accuracy, "seconds": seconds},
        }
        if int8 is not None and beside is not None:
            about["last"] = {"name": last.name, "seconds": found.seconds[last.name], "pace": beside.to_dict()}
            about["int8"] = parts.to_dict()
        runtimes = {backend, *(route.backend for route in plan.routes)}
        quantizers = set() if int8 is None else {int8.target.quantizer}
        made_artifact = finish(
            work,
            draft,
            plan,
            name=name,
            about=about,
            pace=measured,
            timing=timing,
            rows=found.rows,
            packages=("torch", "onnx", *sorted(runtimes | quantizers)),
            say=say,
            graphs=graphs,
            notes=notes,
        )
        learned.remove()
        return Adapted(made_artifact, tuple(found.rows))


def conditions(backend: str, threads: int, int8: Int8 | None) -> dict[str, Any]:
    """What costs are measured under, so that a training which goes on has those that it began with."""
    own = {"backend": backend, "threads": threads}
    return own if int8 is None else own | {"sha256": int8.sha256, "weights": int8.weights} | int8.to_dict()
