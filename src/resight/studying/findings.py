"""What a depth study found, made from its sealed Runs and what was measured of them: plain values for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from resight.runs import CARD, HISTORY, Run
from resight.runs.plain_json import read_json
from resight.studying.gradients import read_measured
from resight.studying.plan import KINDS, PLAIN, RESIDUAL, DepthStudy, Member

PAPER_ERRORS = {20: 0.0875, 32: 0.0751, 44: 0.0717, 56: 0.0697, 110: 0.0643}
"""Test error of residual nets on CIFAR-10, one training each, 110 the best of five (He et al. 2015, table 6)."""
_SCORES = ("train_error", "val_error", "test_error")


def finished_runs(study: DepthStudy) -> dict[Member, Run]:
    """The members that are sealed and measured, with their Runs. Raises RunError for a Run that was changed."""
    runs = {}
    for member in study.asked.members():
        path = study.run_path(member)
        if (path / CARD).is_file() and "responses" in read_measured(study.measured_path(member)):
            runs[member] = Run.open(path, verify=False)
    return runs


def findings(study: DepthStudy, runs: Mapping[Member, Run]) -> dict[str, Any]:
    """Everything that the page shows: ``members``, one entry each; ``nets``, each kind at each depth over its seeds;
    ``degradation``: by kind, how the error changes from the first depth to the last."""
    members = [_member(study, member, run) for member, run in runs.items()]
    asked = study.asked
    ended = {m.name: study.ended[m.name] for m in asked.members() if m.name in study.ended}
    nets = [
        net
        for kind in asked.kinds
        for depth in asked.depths
        if (net := _net(kind, depth, [m for m in members if (m["kind"], m["depth"]) == (kind, depth)], study))
    ]
    some = next(iter(runs.values()), None)
    return {
        "complete": len(members) + len(ended) == len(asked.members()),
        "trainings": len(asked.members()),
        "depths": list(asked.depths),
        "kinds": {kind: KINDS[kind].says for kind in asked.kinds},
        "settings": _settings(some) if some else {},
        "nets": nets,
        "degradation": {kind: _degradation(kind, asked.depths, members) for kind in asked.kinds},
        "ended": ended,
        "members": members,
    }


def _settings(run: Run) -> dict[str, Any]:
    """What all members share, for the page's reader."""
    from resight.studying.measure import config_of

    config = config_of(run)
    return {
        "data": config.data.path,
        "counts": dict(run.card.data["counts"]),
        "classes": len(run.classes),
        "image_size": config.data.image_size,
        "stem": config.model.options.get("stem", "cifar"),
        "updates": config.total_steps,
        "batch": config.batch,
        "lr": config.optimizer.lr,
        "epochs": round(config.epochs, 2),
        "recipe": config.recipe,
        "device": config.device,
        "environment": dict(run.card.environment),
    }


def _member(study: DepthStudy, member: Member, run: Run) -> dict[str, Any]:
    measured = read_measured(study.measured_path(member))
    history = [read_json(line) for line in run.read(HISTORY).decode().splitlines()]
    return {
        "name": member.name,
        "kind": member.kind,
        "depth": member.depth,
        "seed": member.seed,
        "parameters": measured["parameters"],
        "curve": [{"step": e["step"], "train": 1 - e["train_accuracy"], "val": 1 - e["val_accuracy"]} for e in history],
        "seconds": round(sum(e["seconds"] for e in history[-1:]), 1),
        "train_error": measured["train_error"],
        "val_error": _error(run, "val"),
        "test_error": _error(run, "test"),
        **{name: measured.get(name) for name in ("layers", "responses", "gradients", "weights")},
    }


def _error(run: Run, part: str) -> float | None:
    found = run.card.metrics.get(part)
    return None if found is None else 1 - float(found["metrics"]["accuracy"]["value"])


def _net(kind: str, depth: int, members: Sequence[Mapping[str, Any]], study: DepthStudy) -> dict[str, Any] | None:
    """Mean and spread over seeds; ``diverged``: how many trainings did."""
    diverged = sum(name.startswith(f"{kind}-{depth}-seed") for name in study.ended)
    if not members and not diverged:
        return None
    scores = {name: spread([m[name] for m in members if m[name] is not None]) for name in _SCORES}
    parameters = members[0]["parameters"] if members else None
    return {"kind": kind, "depth": depth, "n": len(members), "diverged": diverged, "parameters": parameters, **scores}


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """``values`` with their mean, and the sample's standard deviation from two values on; None of none."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation, "n": len(values), "values": list(values)}


def _degradation(kind: str, depths: Sequence[int], members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Error of the last depth minus that of the first, seed by seed: above 0, depth hurts."""
    by = {(m["depth"], m["seed"]): m for m in members if m["kind"] == kind}
    seeds = sorted({seed for _, seed in by})
    pairs = [(by[depths[-1], s], by[depths[0], s]) for s in seeds if {(depths[0], s), (depths[-1], s)} <= by.keys()]
    return {
        name: spread([deep[name] - flat[name] for deep, flat in pairs if None not in (deep[name], flat[name])])
        for name in _SCORES
    }


def judge(change: Mapping[str, Any] | None) -> str:
    """``higher``, ``lower``, or ``unclear`` where the changes of the seeds have no common sign; ``one seed`` of one;
    ``unknown`` of none."""
    if change is None:
        return "unknown"
    values = change["values"]
    if len(values) == 1:
        return "one seed"
    return "higher" if min(values) > 0 else "lower" if max(values) < 0 else "unclear"


_SMALLEST = 1e-30
"""A gradient that vanished counts as this: ratios are averaged by their logarithms."""


def gradient_ratio(member: Mapping[str, Any], step: str = "1") -> float | None:
    """Gradient norm of the first block's first layer as a multiple of the last block's last, at update ``step``."""
    row = (member.get("gradients") or {}).get(step)
    if not row or len(row) < 3 or row[1] is None or not row[-1]:
        return None
    return float(max(row[1], _SMALLEST) / row[-1])


def to_text(found: Mapping[str, Any]) -> str:
    """For a terminal: errors by kind and depth, and what depth did."""
    lines = [f"{'':<20}{'layers':>7}{'seeds':>6}  {'training error':>16}{'validation':>16}{'test':>16}"]
    for net in found["nets"]:
        scores = "".join(f"{shown(net[name]):>16}" for name in _SCORES)
        gone = f"  {net['diverged']} diverged" if net["diverged"] else ""
        lines.append(f"{net['kind']:<20}{net['depth']:>7}{net['n']:>6}  {scores}{gone}")
    first, last = found["depths"][0], found["depths"][-1]
    for kind in (PLAIN, RESIDUAL):
        change = found["degradation"][kind]["train_error"]
        if change:
            lines.append(
                f"{kind}: from {first} to {last} layers the training error changes by {points(change)} "
                f"({change['n']} seed{'s' if change['n'] > 1 else ''})"
            )
    return "\n".join(lines)


def shown(score: Mapping[str, Any] | None) -> str:
    """``12.34 ± 0.12 %``; without a spread of one value; ``–`` of none."""
    if score is None:
        return "–"
    spread = "" if score["deviation"] is None else f" ± {100 * score['deviation']:.2f}"
    return f"{100 * score['mean']:.2f}{spread} %"


def points(change: Mapping[str, Any] | None) -> str:
    """``+1.23 ± 0.12 points``."""
    if change is None:
        return "–"
    spread = "" if change["deviation"] is None else f" ± {100 * change['deviation']:.2f}"
    return f"{100 * change['mean']:+.2f}{spread} points"
