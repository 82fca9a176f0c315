"""Facts and measurements that nobody made, for arithmetic and choices."""

from __future__ import annotations

from typing import Any

from resight.advising.candidates import Candidate, points
from resight.advising.choose import Option
from resight.advising.facts import DataFacts
from resight.advising.measure import Measured
from resight.advising.rates import Basics, NetRates, ReadRates, Work


def facts(train: int = 1000, side: int = 400, **changes: Any) -> DataFacts:
    plain: dict[str, Any] = {
        "path": "data", "kind": "folder", "counts": {"train": train, "val": 100, "test": 100}, "classes": 10,
        "side": side, "sides": (side, side), "ratio": 1.0, "channels": 3, "warnings": (), "bad": (), "listing": 1.0,
        "check": 0.001,
    }  # fmt: skip
    return DataFacts(**plain | changes)


def net(**changes: Any) -> NetRates:
    plain: dict[str, Any] = {
        "update": 0.05, "train": {32: 0.001, 64: 0.005}, "answer": {32: 0.0005, 64: 0.002}, "activations": 1e6,
        "side": 32, "weights": 4_000_000, "saved": 12_000_000, "writing": 0.2, "exporting": 1.5, "export_bytes": 10**7,
        "file": 4_100_000, "embedding": 64, "one": {32: 200.0, 64: 50.0}, "many": {32: 400.0, 64: 100.0},
    }  # fmt: skip
    return NetRates(**plain | changes)


READ = ReadRates(first=0.01, again=0.0002, square=0.008, kept=30_000, kept_square=12_000)
BASICS = Basics(fixed=9.0, trained_bytes=8 * 10**8, sealed_bytes=9 * 10**8, evaluating=0.5, reference={64: 0.1})
WORK = Work(train=1000, val=100, test=100, cores=2, threads=2, listing=1.0, check=0.001, measure=True)


def option(
    model: str, size: int, seconds: float, latency: float, *, found: DataFacts | None = None,
    weights: str | None = None, download: int = 0, file: int = 10**6, measured: bool = True,
) -> Option:  # fmt: skip
    score = points(model, size, found or facts(), weights is not None)
    return Option(
        Candidate(model, size, weights, score, download), "quick", 10.0, 10.0, 100, seconds, {"updates": seconds},
        seconds, 10**9, latency, 1 / latency, file, 1000, measured,
    )  # fmt: skip


def measured(keys: list[str], sides: list[int]) -> Measured:
    return Measured(BASICS, dict.fromkeys(sides, READ), {key: net() for key in keys}, 3.0)
