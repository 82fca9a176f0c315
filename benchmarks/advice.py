"""What ``resight advise`` predicts against what trainings then take: time, memory, latency of one picture.

    python benchmarks/advice.py --clothing DIR --cifar10-jpeg DIR --fashion-mnist DIR

Each case: the prediction, a real ``resight train`` of the same length, its wall-clock time and peak resident memory
from the system (``wait4``), and ``resight bench`` on its Run. Trainings are short (a part of an epoch to a few), so
that fixed costs count as much as rates. Wanted: time and memory within 25 %, latency within 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import row, save

# data set: groups of (networks, sides, epochs); each group is every network at every side
CASES: dict[str, list[tuple[list[str], list[int], float]]] = {
    "clothing": [(["resnet18", "resnet34"], [64, 128], 3), (["resnet50"], [96], 2)],
    "cifar10-jpeg": [(["resnet20", "resnet32", "resnet56"], [32], 0.5), (["resnet18"], [32], 0.1)],
    "fashion-mnist": [(["resnet20", "resnet32", "resnet56"], [28], 0.5), (["resnet18"], [28], 0.1)],
}
ALLOWED = {"time": 0.25, "memory": 0.25, "latency": 0.15}
UNITS = {"time": "s", "memory": "MB", "latency": "ms"}


def resight(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "resight.cli", *map(str, arguments)]


def answered(command: list[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def predicted(data: Path, models: list[str], sides: list[int], epochs: float, seconds: float) -> dict[Any, Any]:
    """By (network, side): seconds, bytes and seconds for a picture."""
    found = answered(
        resight(
            *("advise", data, "--model", ",".join(models), "--image-size", ",".join(map(str, sides))),
            *("--weights", "none", "--set", f"epochs={epochs}", "--seconds", seconds, "--json"),
        )
    )
    print(f"measuring took {found['measuring_seconds']:.0f} s", file=sys.stderr)
    options = {(o["candidate"]["model"], o["candidate"]["image_size"]): o for o in found["options"]}
    if missing := [key for key, o in options.items() if not o["measured"]]:
        raise SystemExit(f"there was no time to measure {missing}: give more --seconds")
    return {key: values(o["seconds"], o["memory"], o["latency"]) for key, o in options.items()}


def actual(data: Path, model: str, side: int, epochs: float, folder: Path) -> dict[str, float]:
    run = folder / f"{data.name}-{model}-{side}-{time.monotonic_ns()}"
    command = resight("train", data, "--model", model, "--image-size", side, "--epochs", epochs, "--out", run)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    backends = answered(resight("bench", run, "--json"))["backends"]
    one = next(backend["one"] for backend in backends if backend["name"] == "onnxruntime")
    return values(seconds, usage.ru_maxrss * 1024, 1 / one)


def values(seconds: float, memory: float, latency: float) -> dict[str, float]:
    return {"time": seconds, "memory": memory / 1e6, "latency": 1000 * latency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in CASES:
        parser.add_argument(f"--{name}", type=Path, help=f"where {name} lies; left out without it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180, help="for measuring the networks of a group")
    parser.add_argument("--only", help="only networks of this name")
    arguments = parser.parse_args()
    found: dict[tuple[str, str, int, float], list[tuple[dict[str, float], dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name, groups in CASES.items():
                data = getattr(arguments, name.replace("-", "_"))
                for models, sides, epochs in groups if data else []:
                    wanted = [model for model in models if arguments.only in (None, model)]
                    if not wanted:
                        continue
                    expected = predicted(data, wanted, sides, epochs, arguments.seconds)
                    for (model, side), before in sorted(expected.items()):
                        after = actual(data, model, side, epochs, Path(folder))
                        found.setdefault((name, model, side, epochs), []).append((before, after))
                        print(name, model, side, before, after, file=sys.stderr)
    rows, near = [], dict.fromkeys(ALLOWED, 0)
    for (name, model, side, epochs), pairs in found.items():
        for what in ALLOWED:
            before, after = ([pair[i][what] for pair in pairs] for i in (0, 1))
            case = f"{name}, {model} at {side} px, {epochs:g} epochs: {what}"
            line = row(case, ("predicted", before), ("actual", after), unit=UNITS[what], target=None, equal="")
            near[what] += abs(line["ratio"]["median"] - 1) <= ALLOWED[what]
            rows.append(line)
    counted = ", ".join(f"{what} within {ALLOWED[what]:.0%} in {n} of {len(found)}" for what, n in near.items())
    save(
        "advice",
        title="What `resight advise` predicts, against what trainings took",
        target="",
        command="python benchmarks/advice.py --clothing DIR --cifar10-jpeg DIR --fashion-mnist DIR",
        rows=rows,
        notes=[f"The ratio is predicted / actual: 1 is right. Choices whose prediction was near: {counted}."],
    )


if __name__ == "__main__":
    main()
