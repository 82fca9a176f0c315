"""The lines of ``export.py``'s tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from common import lost_row, ratio, row, summary

MODEL = "model.onnx"
BACKENDS = ("onnxruntime", "openvino")
RATIO, LOST = 1.8, 0.5
"""P4: times as fast, and points of accuracy lost at most."""
Rates = tuple[list[float], list[float]]
"""Pictures a second by round: one by one, and 16 at a time."""


def fact(run: str, name: str, parity: Any, size: int, rates: Rates, own: Rates) -> dict[str, Any]:
    """A line of the table. parity: what a gate found; None for model.onnx itself. size: bytes. own: model.onnx's."""
    of = parity or {}
    beside = [ratio(a, b)["median"] for a, b in zip(rates, own, strict=True)]
    return {
        "Run": run,
        "target": name,
        "pictures": of.get("pictures", ""),
        "same best class": "" if parity is None else f"{100 * of['top1_agreement']:.2f} % of {of['decided']:,}",
        "|Δp| max": of.get("max_abs", ""),
        "|Δp| mean": of.get("mean_abs", ""),
        "accuracy, points [95 %]": _points(of.get("difference")),
        "MB": size / 1e6,
        "one picture, ms": summary([1000 / rate for rate in rates[0]]),
        "16 at a time, pictures/s": summary(rates[1]),
        f"times {MODEL}": f"{beside[0]:.2f}×, {beside[1]:.2f}×",
    }


def _points(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return ""
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * difference[name] for name in ("value", "low", "high")))


def speed_rows(run: str, name: str, rates: Mapping[str, Rates], asked: bool) -> list[dict[str, Any]]:
    """For batches of 1 and 16. asked: whether P4 is asked of this form of this network."""
    rows = []
    for place, batch in enumerate((1, 16)):
        plain = [f"{MODEL}, {backend}" for backend in BACKENDS]
        best = max(plain, key=lambda side: statistics.median(rates[side][place]))
        ours, theirs = (name, rates[name][place]), (f"fp32, {best}", rates[best][place])
        target = RATIO if asked else None
        rows.append(row(f"{run}, {name}, batch {batch}", ours, theirs, unit="pictures/s", target=target, equal=""))
    return rows


def accuracy_row(run: str, name: str, found: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """What was lost, in points: the gate's difference the other way round. kept: layers in fp32."""
    n, difference = found["pictures"], found["difference"]
    ends = {"median": "value", "min": "high", "max": "low"}
    stayed = ", ".join(kept) or "nothing"
    return lost_row(
        f"{run}, {name}, accuracy",
        (name, _point(found["accuracy"]["artefact"], n)),
        ("fp32", _point(found["accuracy"]["run"], n)),
        {end: -100 * difference[of] for end, of in ends.items()} | {"n": n},
        unit="%",
        target=LOST,
        equal=f"{n:,} pictures, {found['of']}; the same best class for {100 * found['top1_agreement']:.2f} %; "
        f"in fp32 stayed: {stayed}",
    )


def _point(value: float, n: int) -> dict[str, float]:
    """A share in percent, with Wilson's interval."""
    from resight.evaluation.intervals import wilson

    found = wilson(round(value * n), n)
    return {"median": 100 * value, "min": 100 * found.low, "max": 100 * found.high, "n": n}
