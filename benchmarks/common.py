"""What all benchmarks share: interleaved rounds, medians, and a statement of hardware and versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, str]:
    """Hardware and versions that a measurement depends on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    names = ("resight", "torch", "torchvision", "onnxruntime", "numpy", "pillow")
    return {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version()} | {
        name: version(name) for name in names
    }


def measure(command: list[str]) -> dict[str, Any]:
    """Runs one side in a process of its own; it prints one JSON object on its last line."""
    result = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def interleave(sides: dict[str, list[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """A B A B …: every side once a round, so that a slow minute hits all sides."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, command in sides.items():
            results[name].append(measure(command))
            print(f"round {number + 1} of {rounds}  {name}: {results[name][-1]}", file=sys.stderr)
    return results


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def save(name: str, result: dict[str, Any]) -> None:
    """Prints the result and keeps it in benchmarks/results/NAME.json."""
    text = json.dumps({"machine": machine(), **result}, indent=2)
    out = Path(__file__).parent / "results" / f"{name}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(text + "\n")
    print(text)
