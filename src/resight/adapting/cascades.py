"""``--by cascade`` and ``--by resolution``: a small network first, the whole one where it is unsure. Needs no PyTorch.

The rule is a threshold on the small network's calibrated confidence (Wang et al. 2018, IDK cascades; Teerapittayanon et
al. 2016, BranchyNet, with one exit that shares nothing). What is fitted is fitted on validation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resight.adapting.cascade import Point, Two, curve, operating_point, plain_points
from resight.adapting.figure import save_curves
from resight.adapting.graphs import Graph, graph_of, opened
from resight.adapting.table import GOOD, Row, to_text
from resight.adapting.timing import Pace, pace
from resight.adapting.tried import Tried, alone, judged, refused, tried
from resight.adapting.workshop import MAX_DROP, Bench, bench, check_budget, finish
from resight.errors import UsageError
from resight.evaluation import fit_temperature
from resight.exporting.int8.speed import Rates, measure_rates
from resight.images import printable
from resight.inference.plan import Plan
from resight.runs import Artifact, Run, drafted
from resight.samples import SampleSet

SIZES = (0.5, 0.625, 0.75)
LEAST = 28
"""Pixels: below it the networks are not made to work."""


@dataclass(frozen=True)
class Adapted:
    """The artefact, and the table that it was chosen from."""

    artifact: Artifact
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: where it lies, and its card, which holds the table."""
        return {"path": str(self.artifact.path)} | asdict(self.artifact.card)

    def told(self) -> str:
        """What was made, what it costs on test, and how to use it."""
        card = self.artifact.card
        routes = card.adaptive["routes"]
        lines = [f"{printable(str(self.artifact.path))}: {card.name}, {self.artifact.bytes / 1e6:,.2f} MB"]
        for part, drop in card.adaptive["lost"].items():
            shares = ", ".join(f"{route['name']} {100 * route['share'][part]:.1f} %" for route in routes)
            accuracy = card.metrics[part]["metrics"]["accuracy"]["value"]
            lost_ = f"{100 * drop['value']:+.2f} [{100 * drop['low']:+.2f}, {100 * drop['high']:+.2f}]"
            lines.append(f"{part:<5}  accuracy {100 * accuracy:.2f} %, lost {lost_} points; answered by {shares}")
        lines += [f"note: {note}" for note in card.notes]
        lines.append(f"answer with it: resight predict RUN PICTURES --artifact {card.name}")
        return "\n".join(lines)


def small_of(run: Run, other: Run, artifact: str | None = None, backend: str = "onnxruntime") -> Graph:
    """Another Run, or an artefact of it, as the small network of ``run``'s. backend: of a Run's own graph.

    Raises UsageError for one of other classes or channels, or that sees more pixels; what `graph_of` raises.
    """
    mine, theirs = run.card, other.card
    if theirs.task != mine.task or theirs.classes != mine.classes or theirs.channels != mine.channels:
        raise UsageError(
            f"{other.path} has other classes or channels than {run.path}",
            hint="train both with the same data: the classes must be the same, in the same order",
        )
    if theirs.geometry.size > mine.geometry.size:
        raise UsageError(
            f"{other.path} sees {theirs.geometry.size} px and {run.path} {mine.geometry.size} px: the first network "
            "cannot see more than the whole one",
            hint="exchange the two Runs, or train the small one with fewer pixels",
        )
    graph = graph_of(other, artifact, backend)
    return (
        graph.smaller(mine.geometry.size, theirs.geometry.size) if theirs.geometry.size < mine.geometry.size else graph
    )


def sizes_of(run: Run, sizes: Sequence[int] | None) -> list[int]:
    """Which resolutions to try: those that were asked for, or about a half, five eighths and three quarters of the
    Run's. Raises UsageError for what is not below the Run's size, and where there is none.
    """
    whole = run.card.geometry.size
    if sizes is not None:
        if wrong := [size for size in sizes if not LEAST <= size < whole]:
            raise UsageError(f"{wrong[0]} px is not between {LEAST} and the Run's {whole} px")
        return list(dict.fromkeys(sizes))
    found = [size for size in dict.fromkeys(round(share * whole / 4) * 4 for share in SIZES) if LEAST <= size < whole]
    if not found:
        raise UsageError(f"a Run of {whole} px has no smaller resolution that works, from {LEAST} px on")
    return found


def cascade(
    run: Run,
    samples: SampleSet,
    smalls: Sequence[Graph],
    *,
    name: str,
    rule: str,
    whole: str | None = None,
    last: Graph | None = None,
    max_drop: float = MAX_DROP,
    backend: str = "onnxruntime",
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    timing: Callable[..., Pace] = pace,
    rating: Callable[..., dict[str, Rates]] = measure_rates,
) -> Adapted:
    """Of each small network a cascade into the Run's own; the quickest that is within ``max_drop`` points on validation
    and faster as measured becomes the artefact ``name``.

    rule: ``cascade`` or ``resolution``, for the card. whole: the name of the whole network's route; default: of its
    architecture. last: what answers where the small network is unsure, such as an int8 artefact of the Run, instead of
    its own graph. Losses are counted against the Run's own in fp32 also then, and the cascade must be faster than both.
    timing, rating: how it is measured. The names of all graphs differ.

    Raises AdaptationError where none is good; what `workshop.bench`, `drafted` and `publish` raise.
    """
    check_budget(max_drop)
    own = graph_of(run, None, backend)
    own = own if whole is None else replace(own, name=whole)
    whole = own.name
    with ExitStack() as held:
        draft = held.enter_context(drafted(run, name))
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        say("answering the validation part with the whole network …")
        work = bench(run, samples, backend, threads, folder)
        final = Tried(own, work.whole, work.logits) if last is None else tried(work, last, say)
        asked = [tried(work, small, say) for small in smalls]
        sides = {whole: work.whole, final.name: final.backend} | {one.name: one.backend for one in asked}
        rates = rating(sides, work.shape)
        seconds = {side: 1 / found.one for side, found in rates.items()}
        found = [_fitted(one, work, final, seconds, whole, max_drop) for one in asked]
        rows = [Row(whole, work.accuracy), *(row for one in found for row in one.rows)]
        if last is not None:
            rows.insert(1, alone(final, work, seconds[whole] / seconds[final.name]))
        order = sorted((one for one in found if one.point is not None), key=lambda one: one.expected)
        for one in order:
            place = next(k for k, row in enumerate(rows) if row is one.row)
            plan = one.plan(work, folder)
            adaptive = opened(folder, plan, threads)
            rows[place], measured, beside = judged(rows[place], work, final, adaptive, 2, timing)
            if rows[place].verdict != GOOD:
                continue
            assert one.point is not None
            if rule == "cascade" and one.point.on == 0:
                verdict = f"{one.small.name} alone is within the budget: use {one.small.alone}"
                rows[place] = replace(rows[place], verdict=verdict)
                continue
            say(to_text(rows, place))
            _warn(one.two.drop(one.point.threshold, run.classes), len(work.labels), max_drop, one.point, say)
            for graph in (one.small, final.graph):
                graph.put(draft)
            curves = {other.small.name: other.points for other in found}
            lines = {f"{name} first": points for name, points in curves.items()}
            words = f"{one.small.name} below {one.point.threshold:.3f} goes on ({100 * one.point.on:.0f} %)"
            save_curves(draft / "curve.png", lines, whole, work.accuracy, seconds[whole], words, one.point)
            about = {
                "rule": rule,
                "max_drop": max_drop,
                "thresholds": list(plan.thresholds),
                "curves": {name: plain_points(points) for name, points in curves.items()},
                "whole": {"name": whole, "accuracy": work.accuracy, "seconds": seconds[whole]},
            }
            if beside is not None:
                about["last"] = {"name": final.name, "seconds": seconds[final.name], "pace": beside.to_dict()}
            made = finish(
                work,
                draft,
                plan,
                name=name,
                about=about,
                pace=measured,
                timing=timing,
                rows=rows,
                packages=("onnx", *sorted({backend, *(route.backend for route in plan.routes)})),
                say=say,
                graphs=[one.small, final.graph],
            )
            return Adapted(made, tuple(rows))
        say(to_text(rows, None))
        raise refused(run, rows, max_drop, last, None if last is None else rows[1])


def _fitted(one: Tried, work: Bench, final: Tried, seconds: dict[str, float], whole: str, max_drop: float) -> _Fitted:
    own = (seconds[one.name], seconds[final.name])
    two = Two.of(one.logits, final.logits, work.labels, own, reference=work.logits)
    points = curve(two)
    point = operating_point(points, work.accuracy, max_drop)
    if point is not None and point.seconds >= min(seconds[whole], seconds[final.name]):
        point = None
    single = alone(one, work, seconds[whole] / seconds[one.name])
    row = Row(f"{one.name} → {final.name}", None, verdict="no threshold is both within the budget and faster")
    if point is not None:
        shares, drop = (1 - point.on, point.on), two.drop(point.threshold, work.run.classes)
        row = replace(
            row,
            accuracy=point.accuracy,
            shares=shares,
            drop=drop,
            expected=seconds[whole] / point.seconds,
            verdict="not measured: another one is expected to be faster",
        )
    return _Fitted(one.graph, final.graph, two, points, point, (single, row))


@dataclass(frozen=True, eq=False)
class _Fitted:
    small: Graph
    last: Graph
    two: Two
    points: tuple[Point, ...]
    point: Point | None
    rows: tuple[Row, Row]

    @property
    def row(self) -> Row:
        return self.rows[1]

    @property
    def expected(self) -> float:
        assert self.point is not None
        return self.point.seconds

    def plan(self, work: Bench, folder: Path) -> Plan:
        assert self.point is not None
        first, last = self.two.temperatures
        routes = (self.small.put(folder, first), self.last.put(folder, last))
        temperature = fit_temperature(self.two.logits(self.point.threshold), work.labels)
        return Plan(routes, (self.point.threshold,), temperature=temperature)


def _warn(drop: Any, pictures: int, max_drop: float, point: Point, say: Callable[[str], None]) -> None:
    if 100 * drop.high > max_drop:
        say(
            f"{pictures:,} validation pictures cannot rule out a loss of {100 * drop.high:.2f} points "
            "(upper end of the 95 % interval)"
        )
    if point.on == 0:
        say("the small network alone is within the budget: the whole one is never asked, and is not needed")
