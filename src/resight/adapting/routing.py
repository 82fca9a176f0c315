"""Which sub-networks a learned policy's pictures are sent to: what they answer on validation, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resight.adapting.cascade import Point, operating_point
from resight.adapting.choosing import Kept, Routes, frequent, scores_of, subsets
from resight.adapting.gate import choosing
from resight.adapting.gated import Gate
from resight.adapting.graphs import Graph
from resight.adapting.learning import Learned
from resight.adapting.subnetworks import Part, Parts
from resight.adapting.table import Row
from resight.adapting.tried import Tried, alone, asked, refused
from resight.adapting.workshop import Bench, written
from resight.errors import AdaptationError, ParityError
from resight.evaluation import compare, compare_answers, fit_temperature
from resight.exporting.int8.loss import answers
from resight.exporting.int8.search import computed_wrongly
from resight.exporting.int8.speed import Rates
from resight.exporting.onnx import Answering, export_onnx
from resight.inference.backend import Floats
from resight.inference.heads import Head
from resight.inference.plan import Plan
from resight.runs import ONNX

MOST = 3
"""Sub-networks besides the whole network: each is a graph to hold in memory."""
_COMPARED = 64


class Search:
    """The sub-networks of the most frequent policies, what they answer on validation, and what they cost.

    rows: what was tried, for people. seconds: of each side for a single picture.
    """

    def __init__(
        self,
        work: Bench,
        parts: Parts,
        last: Tried,
        learned: Learned,
        say: Callable[[str], None],
        rating: Callable[..., dict[str, Rates]],
    ) -> None:
        """last: the route of the whole network: its own graph, or an artefact."""
        self.work, self.last, self.gated, self.normalize = work, last, learned.gated.eval(), learned.normalize
        say("exporting sub-networks, and comparing each with PyTorch …")
        self._exported_gate = b""
        self.logits = self._policy_logits()
        tensors = {name: tensor.numpy() for name, tensor in self.gated.net.state_dict().items()}
        head, policies = Head.of(tensors, len(work.run.classes)), frequent(self.logits, MOST)
        data = self._exported(work.folder / "learned.onnx", learned.changed)
        made = [parts.made(f"route-{k}", data, self._dropped(row), head=head) for k, row in enumerate(policies)]
        for row, part in zip(policies, made, strict=True):
            self._check_parity(row, part)
        self.wrong = sum(not part.sound for part in made)
        sound = [k for k, part in enumerate(made) if part.sound]
        self.policies, self.parts = policies[sound], [made[k] for k in sound]
        self.answers: list[Floats] = [answers(part.backend, work.pixels, ("logits",))[0] for part in self.parts]
        gate = asked(Graph("gate-timed", work.backend, self._gate(self.policies, 0.0)), work.folder, work.threads)
        sides = {"whole": work.whole, last.name: last.backend, "gate": gate}
        sides |= {f"route-{k}": part.backend for k, part in enumerate(self.parts)}
        self.seconds = {side: 1 / rates.one for side, rates in rating(sides, work.shape).items()}
        self.curves: dict[int, tuple[Point, ...]] = {}
        self.rows = [Row("whole", work.accuracy), *self._rows(policies, made)]

    def _rows(self, policies: Kept, made: Sequence[Part]) -> list[Row]:
        """Each network that answers every picture."""
        rows, seconds = [], self.seconds
        if self.last.backend is not self.work.whole:
            rows.append(alone(self.last, self.work, seconds["whole"] / seconds[self.last.name]))
        for k, (row, part, found) in enumerate(zip(self.policies, self.parts, self.answers, strict=True)):
            single = alone(Tried(part.graph, part.backend, found), self.work, seconds["whole"] / seconds[f"route-{k}"])
            rows.append(replace(single, name=f"{_title(row)}, always"))
        for row, part in zip(policies, made, strict=True):
            if part.apart is not None and not part.sound:
                rows.append(Row(_title(row), None, verdict=computed_wrongly(part.apart)))
        return rows

    def refused(self, max_drop: float) -> AdaptationError:
        """Where nothing is good."""
        plain = self.last.backend is self.work.whole
        last, single = (None, None) if plain else (self.last.graph, self.rows[1])
        return refused(self.work.run, self.rows, max_drop, last, single)

    def best(self, max_drop: float) -> tuple[Routes, Point, Kept] | None:
        """The quickest set of routes and bias within the budget; its row is the last of ``rows``."""
        work, found = self.work, []
        last = self.last.logits.argmax(axis=1)
        quickest = min(self.seconds["whole"], self.seconds[self.last.name])
        for chosen in subsets(self.logits, self.policies):
            policies = self.policies[list(chosen)]
            everything = np.vstack([policies, np.ones((1, policies.shape[1]), bool)])
            right = np.stack([*(self.answers[k].argmax(axis=1) == work.labels for k in chosen), last == work.labels], 1)
            seconds = (*(self.seconds[f"route-{k}"] for k in chosen), self.seconds[self.last.name])
            routes = Routes(scores_of(self.logits, everything), right, seconds, self.seconds["gate"])
            self.curves[len(policies)] = routes.curve()
            point = operating_point(self.curves[len(policies)], work.accuracy, max_drop)
            if point is not None and point.seconds < quickest:
                found.append((routes, point, policies))
        if not found:
            why = "nothing is both within the budget and faster"
            if not len(self.policies):
                why = "no sub-network is computed rightly" if self.wrong else "it keeps every block for every picture"
            self.rows.append(Row("policy", None, verdict=why))
            return None
        routes, point, policies = min(found, key=lambda one: one[1].seconds)
        taken = routes.taken(point.threshold)
        own = np.stack([*(self.answers[k].argmax(axis=1) for k in range(len(policies))), last], axis=1)
        answered = own[np.arange(len(taken)), taken]
        drop = compare_answers(work.logits.argmax(axis=1), answered, work.labels, work.run.classes).overall.difference
        shares = tuple(float((taken == k).mean()) for k in range(own.shape[1]))
        self.rows.append(Row("policy", point.accuracy, shares, drop, self.seconds["whole"] / point.seconds))
        return routes, point, policies

    def plan(self, routes: Routes, point: Point, policies: Kept, folder: Path) -> tuple[Plan, list[Graph]]:
        """Writes what it needs into ``folder``. With the graphs of its routes."""
        work = self.work
        taken, made, scaled = routes.taken(point.threshold), [], np.empty_like(work.logits)
        graphs = [part.graph for part in self.parts[: len(policies)]]
        names = [f"blocks{int(row.sum())}" for row in policies]
        names = [name if names.count(name) == 1 else f"{name}-{k}" for k, name in enumerate(names)]
        names = [
            name if g.precision == "fp32" else f"{name}-{g.precision}" for name, g in zip(names, graphs, strict=True)
        ]
        graphs = [replace(graph, name=name) for graph, name in zip(graphs, names, strict=True)] + [self.last.graph]
        for number, (graph, logits) in enumerate(
            zip(graphs, [*self.answers[: len(policies)], self.last.logits], strict=True)
        ):
            temperature = fit_temperature(logits, work.labels)
            made.append(graph.put(folder, temperature))
            scaled[taken == number] = logits[taken == number] / temperature
        gate = written(folder, "gate", self._gate(policies, point.threshold), work.backend)
        return Plan(tuple(made), gate=gate, temperature=fit_temperature(scaled, work.labels)), graphs

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
    def _check_parity(self, row: Any, part: Part) -> None:
        """Of its form in fp32."""
        some = np.ascontiguousarray(self.work.pixels[:_COMPARED])
        pixels, (found,) = torch.from_numpy(some), answers(part.fp32, some, ("logits",))
        stem = self.gated.stem(self.normalize(pixels.permute(0, 3, 1, 2)))
        expected = self.gated.answered(stem, torch.from_numpy(row).expand(len(stem), -1))
        own, theirs = (torch.softmax(one, 1).numpy() for one in (expected, torch.from_numpy(found)))
        near = compare(own, theirs)
        if not near.passed:
            raise ParityError(
                f"a sub-network of {int(row.sum())} blocks answers otherwise than in PyTorch: by up to "
                f"{near.max_abs:.2g} in probability",
                hint="this is a defect of the export: please report it with the Run's environment",
            )


def _title(row: Any) -> str:
    return f"{int(row.sum())} of {len(row)} blocks"
