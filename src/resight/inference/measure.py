"""How fast each installed backend answers with a Run on this machine: what ``resight bench`` shows and stores.

Every measurement is a process of its own, so that starting is measured as it happens and no backend's threads disturb
another's; and the backends take turns, so that a slow minute hits all of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from resight.errors import RunError
from resight.images import printable
from resight.inference.backend import open_backend
from resight.inference.choose import Speed
from resight.runs import ONNX, Run

_ANSWER = ("probabilities",)
_RAISED = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")
"""The line of a traceback that says what was raised."""


def measure(
    run: Run, names: Sequence[str], threads: int, *, batch: int, seconds: float, rounds: int
) -> dict[str, Speed]:
    """The speed of each named backend: medians of ``rounds``, each of about ``seconds`` for a rate.

    Answers of the backends are compared first. Raises RunError when a backend fails, or when two differ by more than
    1e-4 in probability.
    """
    found: dict[str, list[Speed]] = {name: [] for name in names}
    answers: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in names:
            speed, answers[name] = _in_a_process(run, name, threads, batch, seconds)
            found[name].append(speed)
    first = names[0]
    for name in names[1:]:
        difference = float(np.abs(np.subtract(answers[first], answers[name])).max())
        if not difference <= 1e-4:
            raise RunError(f"{first} and {name} answer differently for {run.path}: by {difference:.2g} in probability")
    return {
        name: Speed(*(median(getattr(speed, field) for speed in speeds) for field in ("start", "one", "many")))
        for name, speeds in found.items()
    }


def measure_here(
    path: Path, sha256: str, name: str, shape: Sequence[int], threads: int, batch: int, seconds: float
) -> str:
    """One backend, in this process; JSON with the fields of ``Speed`` and ``answer``: the probabilities of one picture.

    shape: of a picture, (S, S, C).
    """
    from concurrent.futures import ThreadPoolExecutor

    noise = np.random.default_rng(0).integers(0, 256, (batch, *shape), dtype=np.uint8)
    one = noise[:1]
    started = time.perf_counter()
    backend = open_backend(name, path, threads, sha256=sha256)
    answer = backend.answer(one, _ANSWER)[0][0]
    start = time.perf_counter() - started
    alone = _rate(lambda: backend.answer(one, _ANSWER), seconds)
    backend = open_backend(name, path, threads, sha256=sha256, callers=threads)
    with ThreadPoolExecutor(threads) as pool:

        def ask_all() -> None:
            list(pool.map(lambda _: backend.answer(noise, _ANSWER), range(2 * threads)))

        many = _rate(ask_all, seconds) * 2 * threads * batch
    return json.dumps({"start": start, "one": alone, "many": many, "answer": [float(p) for p in answer]})


def _rate(ask: Callable[[], object], seconds: float) -> float:
    """How often a second, once it is warm; measured for ``seconds`` and at least twice."""
    ask()
    count, start = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - start < seconds:
        ask()
        count += 1
    return count / (time.perf_counter() - start)


_PROGRAM = (
    "import json, sys; from pathlib import Path; from resight.inference.measure import measure_here; "
    "path, *rest = json.loads(sys.argv[1]); print(measure_here(Path(path), *rest))"
)


def _in_a_process(run: Run, name: str, threads: int, batch: int, seconds: float) -> tuple[Speed, list[float]]:
    geometry = run.card.geometry
    shape = [geometry.size, geometry.size, run.card.channels]
    arguments = [str(run.file(ONNX)), run.card.files.get(ONNX), name, shape, threads, batch, seconds]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raised = [line for line in done.stderr.splitlines() if _RAISED.match(line)]
        reason = raised[-1] if raised else f"exit code {done.returncode}"
        raise RunError(f"{name} could not be measured with {run.path}: {printable(reason, 500)}")
    plain = json.loads(done.stdout.splitlines()[-1])
    return Speed(plain["start"], plain["one"], plain["many"]), plain["answer"]
