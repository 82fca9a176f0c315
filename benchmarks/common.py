"""What all benchmarks share: interleaved rounds, paired ratios, and a statement of hardware and versions.

A script measures its sides in turn (A B A B …), each in a process of its own, checks that their outputs are equal,
and calls ``save``: one JSON file in ``benchmarks/results``, from which ``report.py`` makes ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PEERS = Path(os.environ.get("RESIGHT_PEERS_PYTHON", ROOT / ".venv-bench" / "bin" / "python"))
"""The interpreter of the other tools' environment: ``benchmarks/requirements.txt``, made by ``make bench``."""

_VERSIONS = ("resight", "torch", "torchvision", "onnxruntime", "openvino", "numpy", "pillow")


_LOAD = os.getloadavg()[0]  # before this process has measured anything


def machine(threads: int | None = None) -> dict[str, str]:
    """Hardware, versions, commit, threads, and how busy the machine was at the start: what a measurement depends on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    found = {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if described := commit():
        found["commit"] = described
    return found | {"threads": str(threads or _processors()), "load": f"{_LOAD:.2f}"}


def commit() -> str:
    """What was measured, with ``-dirty`` where it has changes; empty outside of a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(command: Sequence[str | Path], *, python: Path | str = sys.executable) -> dict[str, Any]:
    """Runs one side in a process of its own; it prints one JSON object on its last line."""
    line = [str(python), *map(str, command)]
    result = subprocess.run(line, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(line)} failed with {result.returncode}:\n{result.stderr}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def interleave(
    sides: dict[str, Sequence[str | Path]], rounds: int, *, pythons: dict[str, Path | str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """A B A B …: every side once a round, so that a slow minute hits all sides. ``pythons``: interpreters by side."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, command in sides.items():
            results[name].append(measure(command, python=(pythons or {}).get(name, sys.executable)))
            print(f"round {number + 1} of {rounds}  {name}: {results[name][-1]}", file=sys.stderr)
    return results


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The ratio of each round's pair, summarised: 2.0 says that ``over`` is twice ``under``."""
    return summary([a / b for a, b in zip(over, under, strict=True)])


def row(
    case: str,
    ours: tuple[str, Sequence[float]],
    theirs: tuple[str, Sequence[float]],
    *,
    unit: str,
    target: float | None,
    equal: str,
    more_is_better: bool = True,
) -> dict[str, Any]:
    """One line of a result: two named sides with a value per round, and how many times better ours is.

    unit: of the values, such as ``pictures/s`` or ``s``. target: the ratio to reach, if there is one. equal: how the
    outputs were compared, and what came out. more_is_better: False for times.
    """
    over, under = (ours[1], theirs[1]) if more_is_better else (theirs[1], ours[1])
    return {
        "case": case,
        "unit": unit,
        "sides": {ours[0]: summary(ours[1]), theirs[0]: summary(theirs[1])},
        "ratio": ratio(over, under),
        "target": target,
        "equal": equal,
    }


def lost_row(
    case: str,
    ours: tuple[str, Mapping[str, float]] | None = None,
    theirs: tuple[str, Mapping[str, float]] | None = None,
    lost: Mapping[str, float] | None = None,
    *,
    unit: str,
    target: float | None,
    equal: str,
) -> dict[str, Any]:
    """One line of a result whose target is what may be lost, such as points of accuracy. Without values it was not
    measured, and the page says so.

    ours, theirs: two named sides. They and ``lost`` are summaries: the estimate as ``median``, the ends of its 95 %
    interval as ``min`` and ``max``, and ``n`` pictures. target: the most that the estimate may be.
    """
    sides = {name: dict(values) for name, values in filter(None, (ours, theirs))}
    return {"case": case, "unit": unit, "sides": sides, "lost": lost and dict(lost), "target": target, "equal": equal}


def save(
    name: str,
    *,
    title: str,
    target: str,
    command: str,
    rows: list[dict[str, Any]],
    notes: Sequence[str],
    threads: int | None = None,
    facts: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Prints the result and keeps it in benchmarks/results/NAME.json.

    name: such as ``P3-latency``; target: its code, ``P3``, or empty. command: what to type to repeat it. notes: what
    a reader must know, reasons for misses among it. threads: that each side computes with; None: as many as there are
    processors. facts: what no pair of sides can say, as lines of one table: text, numbers and summaries by column.
    """
    result = {"title": title, "target": target, "command": command, "machine": machine(threads), "rows": rows}
    result |= {"facts": list(facts)} if facts else {}
    text = json.dumps({**result, "notes": list(notes)}, indent=2, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
