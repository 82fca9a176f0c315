"""A network that has answered validation, beside the whole one; and what is said where nothing adaptive is good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resight.adapting.graphs import Graph
from resight.adapting.table import COMPARED, GOOD, Row
from resight.adapting.timing import Pace
from resight.adapting.workshop import Bench
from resight.errors import AdaptationError
from resight.evaluation import compare_answers
from resight.exporting.int8.loss import answers
from resight.inference import Backend, open_backend
from resight.inference.backend import Floats
from resight.runs import Run


@dataclass(frozen=True, eq=False)
class Tried:
    """A graph, the session over it, and its logits (N, K) for the validation pictures."""

    graph: Graph
    backend: Backend
    logits: Floats

    @property
    def name(self) -> str:
        return self.graph.name


def tried(work: Bench, graph: Graph, say: Callable[[str], None]) -> Tried:
    """Asks it. Raises what `Graph.put`, backends and `answers` raise."""
    say(f"answering the validation part with {graph.name} …")
    backend = asked(graph, work.folder, work.threads)
    (logits,) = answers(backend, work.pixels, ("logits",))
    return Tried(graph, backend, logits)


def asked(graph: Graph, folder: Path, threads: int) -> Backend:
    """A session over a graph, whose files are put into ``folder``. Raises what `Graph.put` and backends raise."""
    route = graph.put(folder)
    return open_backend(route.backend, folder / route.graph, threads, sha256=route.sha256, weights=route.weights)


def alone(one: Tried, work: Bench, faster: float) -> Row:
    """A network that answers every picture, beside the whole one."""
    predicted = one.logits.argmax(axis=1)
    drop = compare_answers(work.logits.argmax(axis=1), predicted, work.labels, work.run.classes).overall.difference
    accuracy = float((predicted == work.labels).mean())
    return Row(f"{one.name} alone", accuracy, (1.0,), drop, faster, verdict=COMPARED)


def judged(
    row: Row, work: Bench, last: Tried, adaptive: Backend, routes: int, timing: Callable[..., Pace]
) -> tuple[Row, Pace, Pace | None]:
    """The row with its verdict, the pace beside the whole network in fp32 and, where that is not ``last``, beside this:
    it must be faster than both. timing: see `timing.pace`.
    """
    measured = timing(work.whole, adaptive, work.pixels, routes)
    row = row.measured(measured, loses=False)
    if row.verdict != GOOD or last.backend is work.whole:
        return row, measured, None
    beside = timing(last.backend, adaptive, work.pixels, routes)
    return row if beside.faster else replace(row, verdict=f"not faster than {last.name} alone"), measured, beside


def refused(
    run: Run, rows: Sequence[Row], max_drop: float, last: Graph | None = None, single: Row | None = None
) -> AdaptationError:
    """Where nothing is good. last: the artefact that the whole network was to be, ``single`` its row: the hint names it
    where it alone is within the budget.
    """
    reasons = [f"{row.name}: {row.verdict}" for row in rows if row.verdict not in ("", COMPARED)]
    fits = single is not None and single.drop is not None and 100 * single.drop.value <= max_drop
    instead = f"the artefact {last.artifact} alone" if last is not None and fits else "the Run itself"
    return refused_because(run, max_drop, "; ".join(reasons), instead)


def refused_because(run: Run, max_drop: float, why: str, instead: str = "the Run itself") -> AdaptationError:
    """With the reason in plain words. instead: what there is to answer with."""
    return AdaptationError(
        f"no adaptive form of {run.path} is both faster and within {max_drop:g} points: {why}",
        hint=f"allow more with --max-drop, or use {instead}; what was there before is kept",
    )
