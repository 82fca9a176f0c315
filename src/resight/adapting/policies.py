"""``--by blocks``: a policy, learned by reinforcement, sends each picture to one of a few sub-networks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from resight.adapting.cascade import Point, operating_point, plain_points
from resight.adapting.cascades import Adapted, refused
from resight.adapting.choosing import Kept, Routes, frequent, scores_of, subsets
from resight.adapting.dropping import without
from resight.adapting.figure import save_curves
from resight.adapting.gate import choosing
from resight.adapting.gated import Gate, droppable
from resight.adapting.graphs import Graph, graph_of, opened
from resight.adapting.learning import Learned, learn
from resight.adapting.reinforce import PolicySettings
from resight.adapting.rewards import Costs
from resight.adapting.table import COMPARED, GOOD, Row, to_text
from resight.adapting.timing import Pace, pace
from resight.adapting.workshop import MAX_DROP, Bench, bench, check_budget, finish, written
from resight.errors import ParityError
from resight.evaluation import compare, compare_answers, fit_temperature
from resight.exporting.int8.loss import answers
from resight.exporting.int8.speed import Rates, measure_rates
from resight.exporting.onnx import Answering, export_onnx
from resight.inference import Backend, open_backend
from resight.inference.backend import Floats
from resight.inference.heads import Head
from resight.inference.plan import Plan
from resight.models.from_run import network_of
from resight.recipes import TrainConfig
from resight.runs import ONNX, Run, drafted
from resight.samples import SampleSet

MOST = 3
"""Sub-networks besides the whole network: each is a graph to hold in memory."""
_COMPARED = 64


def measure_costs(
    run: Run, backend: str, threads: int, folder: Path, rating: Callable[..., dict[str, Rates]] = measure_rates
) -> Costs:
    """The seconds of each block that can be dropped, as measured here for single pictures: those of a stage are alike,
    and are what the network is quicker without them, shared out. ``folder``: for graphs.
    """
    data, names = run.read(ONNX), droppable(network_of(run))
    stages = sorted({name.partition(".")[0] for name in names})
    sides: dict[str, Backend] = {"whole": _open(folder, "whole", data, backend, threads)}
    for stage in stages:
        graph = without(data, [name for name in names if name.startswith(f"{stage}.")])
        sides[stage] = _open(folder, stage, graph, backend, threads)
    size = run.card.geometry.size
    rates = rating(sides, (size, size, run.card.channels))
    whole = 1 / rates["whole"].one
    each = {}
    for stage in stages:
        count = sum(name.startswith(f"{stage}.") for name in names)
        each[stage] = max(0.0, whole - 1 / rates[stage].one) / count
    blocks = tuple(each[name.partition(".")[0]] for name in names)
    return Costs(max(whole - sum(blocks), 0.0), blocks)


def _open(folder: Path, name: str, data: bytes, backend: str, threads: int) -> Backend:
    route = written(folder, name, data, backend)
    return open_backend(backend, folder / route.graph, threads, sha256=route.sha256)


def blocks(
    run: Run,
    samples: SampleSet,
    config: TrainConfig,
    *,
    name: str,
    settings: PolicySettings,
    report: Any,
    max_drop: float = MAX_DROP,
    backend: str = "onnxruntime",
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    timing: Callable[..., Pace] = pace,
    rating: Callable[..., dict[str, Rates]] = measure_rates,
) -> Adapted:
    """Learns a policy with ``config``, or goes on with one that was begun, and makes the artefact ``name`` of its most
    frequent choices and the Run's own network.

    Raises AdaptationError where nothing is both faster and within ``max_drop`` points, ParityError where a sub-network
    answers otherwise than in PyTorch; Interrupted after a signal, the state saved; what `bench`, `drafted` and
    `learning.learn` raise.
    """
    check_budget(max_drop)
    with ExitStack() as held:
        draft = held.enter_context(drafted(run, name))
        folder = Path(held.enter_context(TemporaryDirectory()))
        say("answering the validation part with the whole network …")
        work = bench(run, samples, backend, threads, folder)
        learned = learn(
            *(run, samples, config, settings, name),
            lambda: measure_costs(run, backend, threads, folder, rating),
            report,
            {"backend": backend, "threads": threads},
        )
        found = _Search(work, learned, say, rating)
        made = found.best(max_drop)
        if made is None:
            say(to_text(found.rows, None))
            raise refused(run, found.rows, max_drop)
        routes, point, policies = made
        plan = found.plan(routes, point, policies, draft)
        measured = timing(work.whole, opened(draft, plan, threads), work.pixels, len(plan.routes))
        place = len(found.rows) - 1
        found.rows[place] = found.rows[place].measured(measured, loses=False)
        if found.rows[place].verdict != GOOD:
            say(to_text(found.rows, None))
            raise refused(run, found.rows, max_drop)
        say(to_text(found.rows, place))
        whole = plan.routes[-1].name
        save_curves(
            draft / "curve.png",
            {"the policy": found.curves[len(policies)]},
            whole,
            work.accuracy,
            found.seconds["whole"],
            "the policy",
            point,
        )
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
            "curves": {"the policy": plain_points(found.curves[len(policies)])},
            "whole": {"name": whole, "accuracy": work.accuracy, "seconds": found.seconds["whole"]},
        }
        made_artifact = finish(
            work,
            draft,
            plan,
            name=name,
            about=about,
            pace=measured,
            rows=found.rows,
            packages=("torch", "onnx", "onnxruntime" if backend == "onnxruntime" else "openvino"),
            say=say,
        )
        learned.remove()
        return Adapted(made_artifact, tuple(found.rows))


class _Search:
    """The sub-networks of the most frequent policies, what they answer on validation, and what they cost."""

    def __init__(
        self, work: Bench, learned: Learned, say: Callable[[str], None], rating: Callable[..., dict[str, Rates]]
    ) -> None:
        self.work, self.gated, self.normalize = work, learned.gated.eval(), learned.normalize
        say("exporting sub-networks, and comparing each with PyTorch …")
        self._exported_gate = b""
        self.logits = self._policy_logits()
        self.policies = frequent(self.logits, MOST)
        self.head = Head.of(
            {name: tensor.numpy() for name, tensor in self.gated.net.state_dict().items()}, len(work.run.classes)
        )
        graph = self._exported(work.folder / "learned.onnx", learned.changed)
        self.graphs = [without(graph, self._dropped(row)) for row in self.policies]
        self.backends = [
            _open(work.folder, f"route-{k}", data, work.backend, work.threads) for k, data in enumerate(self.graphs)
        ]
        self.answers: list[Floats] = [answers(one, work.pixels, ("logits",))[0] for one in self.backends]
        for row, found in zip(self.policies, self.answers, strict=True):
            self._check_parity(row, found)
        gate = self._gate(self.policies, 0.0)
        sides = {"whole": work.whole, "gate": _open(work.folder, "gate-timed", gate, work.backend, work.threads)}
        sides |= {f"route-{k}": backend for k, backend in enumerate(self.backends)}
        self.seconds = {side: 1 / rates.one for side, rates in rating(sides, work.shape).items()}
        self.curves: dict[int, tuple[Point, ...]] = {}
        self.rows: list[Row] = [Row("whole", work.accuracy)]
        for row, found, k in zip(self.policies, self.answers, range(MOST), strict=False):
            right = found.argmax(axis=1)
            drop = compare_answers(work.logits.argmax(axis=1), right, work.labels, work.run.classes).overall.difference
            accuracy = float((right == work.labels).mean())
            expected = self.seconds["whole"] / self.seconds[f"route-{k}"]
            title = f"{int(row.sum())} of {len(row)} blocks, always"
            self.rows.append(Row(title, accuracy, (1.0,), drop, expected, verdict=COMPARED))

    def best(self, max_drop: float) -> tuple[Routes, Point, Kept] | None:
        """The quickest set of routes and bias within the budget; its row is the last of ``rows``."""
        work, found = self.work, []
        whole = work.logits.argmax(axis=1) == work.labels
        for chosen in subsets(self.logits, self.policies):
            policies = self.policies[list(chosen)]
            everything = np.vstack([policies, np.ones((1, policies.shape[1]), bool)])
            right = np.stack([*(self.answers[k].argmax(axis=1) == work.labels for k in chosen), whole], axis=1)
            seconds = (*(self.seconds[f"route-{k}"] for k in chosen), self.seconds["whole"])
            routes = Routes(scores_of(self.logits, everything), right, seconds, self.seconds["gate"])
            self.curves[len(policies)] = routes.curve()
            point = operating_point(self.curves[len(policies)], work.accuracy, max_drop)
            if point is not None and point.seconds < self.seconds["whole"]:
                found.append((routes, point, policies))
        if not found:
            why = "nothing is both within the budget and faster"
            why = why if len(self.policies) else "it keeps every block for every picture"
            self.rows.append(Row("policy", None, verdict=why))
            return None
        routes, point, policies = min(found, key=lambda one: one[1].seconds)
        taken = routes.taken(point.threshold)
        own = np.stack([*(self.answers[k].argmax(axis=1) for k in range(len(policies))), work.logits.argmax(axis=1)], 1)
        answered = own[np.arange(len(taken)), taken]
        drop = compare_answers(own[:, -1], answered, work.labels, work.run.classes).overall.difference
        shares = tuple(float((taken == k).mean()) for k in range(own.shape[1]))
        self.rows.append(Row("policy", point.accuracy, shares, drop, self.seconds["whole"] / point.seconds))
        return routes, point, policies

    def plan(self, routes: Routes, point: Point, policies: Kept, folder: Path) -> Plan:
        """Writes what it needs into ``folder``."""
        work = self.work
        taken, made, scaled = routes.taken(point.threshold), [], np.empty_like(work.logits)
        all_logits = [*self.answers[: len(policies)], work.logits]
        whole = graph_of(work.run, None, work.backend)
        graphs = [Graph("", work.backend, data, head=self.head) for data in self.graphs[: len(policies)]] + [whole]
        names = [f"blocks{int(row.sum())}" for row in policies]
        names = [name if names.count(name) == 1 else f"{name}-{k}" for k, name in enumerate(names)] + ["whole"]
        for number, (title, logits, graph) in enumerate(zip(names, all_logits, graphs, strict=True)):
            temperature = fit_temperature(logits, work.labels)
            made.append(replace(graph, name=title).put(folder, temperature))
            scaled[taken == number] = logits[taken == number] / temperature
        gate = self._gate(policies, point.threshold)
        return Plan(
            tuple(made),
            gate=written(folder, "gate", gate, work.backend),
            temperature=fit_temperature(scaled, work.labels),
        )

    def _dropped(self, row: Any) -> list[str]:
        return [name for name, kept in zip(self.gated.names, row, strict=True) if not kept]

    @torch.inference_mode()
    def _policy_logits(self) -> Floats:
        parts = []
        for start in range(0, len(self.work.pixels), _COMPARED):
            pixels = torch.from_numpy(np.ascontiguousarray(self.work.pixels[start : start + _COMPARED]))
            parts.append(self.gated.policy(self.gated.stem(self.normalize(pixels.permute(0, 3, 1, 2)))).numpy())
        return np.concatenate(parts)

    def _exported(self, path: Path, changed: bool) -> bytes:
        """The whole network as a graph: the Run's own, or what became of it."""
        run = self.work.run
        if not changed:
            return run.read(ONNX)
        card = run.card
        export_onnx(Answering(self.gated.net, card.mean, card.std, 1.0), card.geometry.size, path)
        return path.read_bytes()

    def _gate(self, policies: Kept, bias: float) -> bytes:
        """The policy as a graph that chooses among these and, with ``bias``, the whole network."""
        if not self._exported_gate:
            path = self.work.folder / "gate.onnx"
            export_onnx(Gate(self.gated, self.normalize), self.work.run.card.geometry.size, path)  # type: ignore[arg-type]
            self._exported_gate = path.read_bytes()
        biases = np.zeros(len(policies) + 1, np.float32)
        biases[-1] = bias
        everything = np.vstack([policies, np.ones((1, policies.shape[1]), bool)])
        return choosing(self._exported_gate, everything, biases)

    @torch.inference_mode()
    def _check_parity(self, row: Any, found: Floats) -> None:
        pixels = torch.from_numpy(np.ascontiguousarray(self.work.pixels[:_COMPARED]))
        stem = self.gated.stem(self.normalize(pixels.permute(0, 3, 1, 2)))
        expected = self.gated.answered(stem, torch.from_numpy(row).expand(len(stem), -1))
        own, theirs = (torch.softmax(one, 1).numpy() for one in (expected, torch.from_numpy(found[:_COMPARED].copy())))
        near = compare(own, theirs)
        if not near.passed:
            raise ParityError(
                f"a sub-network of {int(row.sum())} blocks answers otherwise than in PyTorch: by up to "
                f"{near.max_abs:.2g} in probability",
                hint="this is a defect of the export: please report it with the Run's environment",
            )
