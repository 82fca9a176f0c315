"""All measurements for a list of candidates, within a given time, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resight.advising.facts import DataFacts
from resight.advising.graphs import at_side, speeds
from resight.advising.rates import Basics, NetRates, ReadRates
from resight.advising.timing import key_of
from resight.errors import TrainingError
from resight.images import printable
from resight.inference import BATCH
from resight.inference.backend import thread_count
from resight.recipes import TrainConfig

_FOR_TRAINING = 0.75  # of the time; the rest is for answering


@dataclass(frozen=True)
class Measured:
    """rates: of networks, by ``key_of``; those that there was no time for are missing. reads: by side in pixels."""

    basics: Basics
    reads: dict[int, ReadRates]
    rates: dict[str, NetRates]
    seconds: float = 0.0


def measure(
    facts: DataFacts,
    configs: Sequence[TrainConfig],
    seconds: float,
    say: Callable[[str], None],
    known: Measured | None = None,
) -> Measured:
    """Measures what ``configs``, the most needed first, need; the network of the first one in any case.

    known: what was measured before, to which this is added. Raises TrainingError when a measuring process fails.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="resight-advise-") as folder:
        asked = {
            "data": facts.path,
            "bad": [name for name, _ in facts.bad],
            "counts": facts.counts,
            "configs": [config.model_dump() for config in configs],
            "seconds": _FOR_TRAINING * seconds,
            "folder": folder,
            "rehearse": known is None,
        }
        say("measuring how fast this machine trains")
        found = _train(asked)
        networks = sum("net" in line for line in found)
        say(f"measuring how fast it answers ({networks} networks)")
        left = max(2.0, seconds - (time.perf_counter() - began))
        rates = _answer(found, configs, Path(folder), left)
    reads = {line["side"]: ReadRates(**line["read"]) for line in found if "read" in line}
    spent = time.perf_counter() - began
    if known is not None:
        return Measured(known.basics, known.reads | reads, known.rates | rates, known.seconds + spent)
    basics = next(line["basics"] for line in found if "basics" in line)
    return Measured(Basics(**basics | {"reference": _points(basics["reference"])}), reads, rates, spent)


def _train(asked: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; from resight.advising.worker import main; main(sys.stdin.read())"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        killed = " (perhaps memory ran out)" if done.returncode < 0 else ""
        raise TrainingError(f"measuring how fast this machine trains failed{killed}: {printable(reason, 500)}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _answer(
    found: list[dict[str, Any]], configs: Sequence[TrainConfig], folder: Path, seconds: float
) -> dict[str, NetRates]:
    """The networks' rates with those of their graphs: at every candidate's side, the smallest and largest first."""
    nets = {line["net"]: _net(line["rates"]) for line in found if "net" in line}
    order = list(dict.fromkeys(key_of(config) for config in configs))
    wanted: list[tuple[str, int]] = []
    sides = {key: sorted({c.data.image_size for c in configs if key_of(c) == key}) for key in nets}
    for ends in (True, False):
        for key in nets:
            wanted += [(key, s) for s in sides[key] if (s in (sides[key][0], sides[key][-1])) == ends]
    graphs = [
        (at_side(folder / f"{order.index(key)}.onnx", side, folder / f"{order.index(key)}-{side}.onnx"), side)
        for key, side in wanted
    ]
    answered = speeds(graphs, configs[0].data.channels, thread_count(None), BATCH, seconds)
    for (key, side), rate in zip(wanted, answered, strict=True):
        if rate:
            net = nets[key]
            nets[key] = replace(net, one={**net.one, side: rate[0]}, many={**net.many, side: rate[1]})
    return {key: net for key, net in nets.items() if net.one}


def _net(plain: dict[str, Any]) -> NetRates:
    return NetRates(**plain | {name: _points(plain[name]) for name in ("train", "answer", "gpu", "one", "many")})


def _points(plain: dict[str, float]) -> dict[int, float]:
    return {int(side): value for side, value in plain.items()}
