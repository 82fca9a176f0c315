"""What the paper found, each finding beside what was measured here, also where they differ."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from resight.studying.findings import PAPER_ERRORS, gradient_ratio, judge, points, shown, spread
from resight.studying.plan import PLAIN, RESIDUAL

Found = Mapping[str, Any]
VANISHED = 0.01  # a first layer whose gradient is less than this share of the last one's


def claims(found: Found) -> list[dict[str, str]]:
    """Rows of ``paper``: what He et al. 2015 found and where; ``here``: what was measured; ``verdict``."""
    return [_plain(found), _residual(found), _side_by_side(found), _gradients(found), _responses(found), _size(found)]


def _row(paper: str, here: str, verdict: str) -> dict[str, str]:
    return {"paper": paper, "here": here, "verdict": verdict}


def _verdict(change: Found | None, expected: str) -> str:
    """A change, by seed, against the direction of the paper."""
    said = judge(change)
    if said == "unknown":
        return "not measured"
    assert change is not None
    count = change["n"]
    if said == "unclear":
        return f"undecided: the {count} seeds differ in sign"
    if said == "one seed":
        said = "higher" if change["mean"] > 0 else "lower" if change["mean"] < 0 else "unclear"
        seeds = ", by one seed"
    else:
        seeds = f", all {count} seeds"
    return ("as in the paper" if said == expected else "not as in the paper") + seeds


def _plain(found: Found) -> dict[str, str]:
    change = found["degradation"][PLAIN]
    first, last = found["depths"][0], found["depths"][-1]
    here = f"from {first} to {last} layers: training error {points(change['train_error'])}"
    if change["test_error"]:
        here += f", test error {points(change['test_error'])}"
    return _row(
        "Deeper plain nets have a higher training error, so it is no overfitting (§4.2, figure 6 left; plain-110 errs "
        "on more than 60 %).",
        here,
        _verdict(change["train_error"], "higher"),
    )


def _residual(found: Found) -> dict[str, str]:
    change, depths = found["degradation"][RESIDUAL], found["depths"]
    paper = ", ".join(f"{d}: {100 * PAPER_ERRORS[d]:.2f} %" for d in depths if d in PAPER_ERRORS)
    score = "test_error" if change["test_error"] else "val_error"
    here = f"from {depths[0]} to {depths[-1]} layers: {score.replace('_', ' ')} {points(change[score])}"
    return _row(
        "Deeper residual nets have lower errors, after 64,000 updates on CIFAR-10"
        + (f" (§4.2, table 6: {paper})." if paper else " (§4.2, table 6)."),
        here,
        _verdict(change[score], "lower"),
    )


def _side_by_side(found: Found) -> dict[str, str]:
    depth = found["depths"][-1]
    by = {(m["kind"], m["seed"]): m for m in found["members"] if m["depth"] == depth}
    seeds = sorted({seed for _, seed in by})
    pairs = [(by[PLAIN, s], by[RESIDUAL, s]) for s in seeds if {(PLAIN, s), (RESIDUAL, s)} <= by.keys()]
    values = [plain["val_error"] - residual["val_error"] for plain, residual in pairs]
    change = spread(values)
    scores = {net["kind"]: net["val_error"] for net in found["nets"] if net["depth"] == depth}
    here = f"{depth} layers, validation error: plain {shown(scores.get(PLAIN))}, residual {shown(scores.get(RESIDUAL))}"
    return _row("Of deep nets the plain one is worse (§4.2, figure 6).", here, _verdict(change, "higher"))


def _gradients(found: Found) -> dict[str, str]:
    """At the first update; 1 would be equal norms of the first and the last layer."""
    depth, ratios = found["depths"][-1], {}
    for kind in (PLAIN, RESIDUAL):
        values = [r for m in _of(found, kind, depth) if (r := gradient_ratio(m)) is not None]
        if values:
            ratios[kind] = statistics.geometric_mean(values)
    text = ", ".join(f"{kind} {ratio:.2g}" for kind, ratio in ratios.items()) or "–"
    verdict = "not measured"
    if PLAIN in ratios:
        verdict = "as in the paper: nothing vanishes" if ratios[PLAIN] > VANISHED else "not as in the paper"
    return _row(
        "With BatchNorm gradients of plain nets do not vanish: that is not what makes them hard to train (§4.1).",
        f"{depth} layers, first update, norm of the first layer of blocks over that of the last: {text}",
        verdict,
    )


def _responses(found: Found) -> dict[str, str]:
    depth, means = found["depths"][-1], {}
    for kind in (PLAIN, RESIDUAL):
        values = [statistics.fmean(m["responses"]) for m in _of(found, kind, depth)]
        if values:
            means[kind] = statistics.fmean(values)
    both = len(means) == 2
    here = f"{depth} layers, mean over layers: " + (", ".join(f"{k} {v:.2f}" for k, v in means.items()) or "–")
    smaller = both and means[RESIDUAL] < means[PLAIN]
    return _row(
        "Layers of residual nets respond more weakly than those of plain nets (§4.2, figure 7).",
        here,
        "not measured" if not both else "as in the paper" if smaller else "not as in the paper",
    )


def _size(found: Found) -> dict[str, str]:
    """The deeper, the weaker the responses of residual nets."""
    responding = {
        depth: [statistics.fmean(m["responses"]) for m in _of(found, RESIDUAL, depth)] for depth in found["depths"]
    }
    means = {depth: statistics.fmean(values) for depth, values in responding.items() if values}
    falling = all(a > b for a, b in pairwise(means.values()))
    return _row(
        "The deeper a residual net, the less each layer changes the signal (§4.2, figure 7: 20, 56, 110).",
        "mean over layers: " + ", ".join(f"{depth}: {value:.2f}" for depth, value in means.items()),
        "not measured" if len(means) < 2 else "as in the paper" if falling else "not as in the paper",
    )


def _of(found: Found, kind: str, depth: int) -> Sequence[Found]:
    return [m for m in found["members"] if (m["kind"], m["depth"]) == (kind, depth)]
