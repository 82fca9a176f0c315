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
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from resight.errors import RunError
from resight.images import printable
from resight.inference.backend import AUTO, Floats, Pixels, open_backend
from resight.inference.choose import Speed, only_choice
from resight.runs import ONNX, Artifact, Run

EXAMINED = 32
"""Pictures whose answers are compared."""
NEAR, NEAR_PROBABILITY = 1e-3, 1e-4
"""Largest difference of two backends' answers: of logits, in units of their spread, and of probabilities. With fp32
graphs onnxruntime 1.32 and openvino 2026.4 were 4e-6 to 2e-5 spreads and 7e-7 to 2e-5 in probability apart (ResNet-18
and -56 trained at 64 and 32 px, untrained ResNet-18 and -50 at 224 px; AMD EPYC).
"""
_ANSWER = ("probabilities",)
_RAISED = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")
"""The line of a traceback that says what was raised."""


@dataclass(frozen=True)
class Side:
    """What is measured: a graph with its backend, and what its files must hash to. own: an artefact, whose differences
    from model.onnx were measured when it was exported, and may be what int8 costs.
    """

    name: str
    backend: str
    graph: Path
    sha256: str | None
    weights: str | None = None
    own: bool = False


def sides_of(run: Run, names: Sequence[str], artifacts: Sequence[Artifact]) -> list[Side]:
    """model.onnx with each named backend, then each artefact, as ``artifact NAME``, with its own."""
    sides = [Side(name, name, run.file(ONNX), run.card.files.get(ONNX)) for name in names]
    for one in artifacts:
        backend = only_choice(AUTO, one).name
        sides.append(Side(f"artifact {one.card.name}", backend, one.graph, one.sha256, one.weights, own=True))
    return sides


def measure(
    run: Run,
    names: Sequence[str],
    threads: int,
    *,
    batch: int,
    seconds: float,
    rounds: int,
    artifacts: Sequence[Artifact] = (),
) -> dict[str, Speed]:
    """The speed of each of ``sides_of``, by name: medians of ``rounds``, each of about ``seconds`` for a rate.

    Answers of the backends for ``EXAMINED`` pictures are compared first. Raises RunError when one fails, or when two
    backends differ by more than ``NEAR``.
    """
    sides = sides_of(run, names, artifacts)
    found: dict[str, list[Speed]] = {side.name: [] for side in sides}
    for number in range(rounds):
        answers = []
        for side in sides:
            examined = EXAMINED if number == 0 and not side.own else 0
            speed, answered = _in_a_process(run, side, threads, batch, seconds, examined)
            found[side.name].append(speed)
            if answered is not None:
                answers.append((side.name, answered))
        for name, answered in answers[1:]:
            if difference := apart(answers[0][1], answered):
                raise RunError(
                    f"{names[0]} and {name} answer differently for {run.path}: {difference}",
                    hint="their speeds are not comparable: choose one by its name, with --backend",
                )
    return {
        name: Speed(*(median(getattr(speed, field) for speed in speeds) for field in ("start", "one", "many")))
        for name, speeds in found.items()
    }


@dataclass(frozen=True)
class Answered:
    """``logits`` and ``probabilities`` of the same pictures, float32 (N, K) each."""

    logits: Floats
    probabilities: Floats


def apart(one: Answered, other: Answered) -> str | None:
    """How two backends differ for the same pictures, in words; None where it is no more than rounding.

    Logits are what is compared: probabilities that are nearly 0 and 1 are alike for graphs that have little in common.
    The unit is how much a class's logit differs between pictures, so a network that calls everything alike is not near
    to one that does not.
    """
    if one.logits.shape != other.logits.shape:
        return f"logits of {one.logits.shape} and {other.logits.shape}"
    spread = float(np.sqrt(one.logits.var(axis=0, dtype=np.float64).mean()))
    rounding = 1e-5 * float(np.abs(one.logits).max())  # where nothing differs between pictures
    logits = float(np.abs(one.logits - other.logits).max())
    if not logits <= NEAR * spread + rounding:
        return f"logits by {logits:.2g}, where pictures differ by {spread:.2g}"
    probabilities = float(np.abs(one.probabilities - other.probabilities).max())
    return None if probabilities <= NEAR_PROBABILITY else f"by {probabilities:.2g} in probability"


def varied(count: int, shape: Sequence[int]) -> Pixels:
    """uint8 (N, S, S, C): coarse and fine, bright and dark, of much and little contrast. A network answers these in
    more than one way, where noise is all the same to it.
    """
    random = np.random.default_rng(0)
    side, _, channels = shape
    pictures = np.empty((count, *shape), np.uint8)
    for number, picture in enumerate(pictures):
        cells = min(side, 2 ** (number % 6 + 1))
        low, high = sorted(random.integers(0, 256, 2))
        coarse = low + random.integers(0, 256, (cells, cells, channels)) * (high - low) // 255
        place = np.arange(side) * cells // side
        picture[:] = coarse[place][:, place]
    return pictures


def measure_here(
    path: Path,
    sha256: str,
    name: str,
    shape: Sequence[int],
    threads: int,
    batch: int,
    seconds: float,
    examined: int,
    weights: str | None = None,
) -> str:
    """One backend, in this process; JSON with the fields of ``Speed``, and the logits and probabilities of so many
    ``examined`` pictures.

    weights: see ``open_backend``. shape: of a picture, (S, S, C).
    """
    from concurrent.futures import ThreadPoolExecutor

    noise = np.random.default_rng(0).integers(0, 256, (batch, *shape), dtype=np.uint8)
    one = noise[:1]
    started = time.perf_counter()
    backend = open_backend(name, path, threads, sha256=sha256, weights=weights)
    backend.answer(one, _ANSWER)
    start = time.perf_counter() - started
    alone = rate(lambda: backend.answer(one, _ANSWER), seconds)
    backend = open_backend(name, path, threads, sha256=sha256, weights=weights, callers=threads)
    with ThreadPoolExecutor(threads) as pool:

        def ask_all() -> None:
            list(pool.map(lambda _: backend.answer(noise, _ANSWER), range(2 * threads)))

        many = rate(ask_all, seconds) * 2 * threads * batch
    plain: dict[str, object] = {"start": start, "one": alone, "many": many}
    if examined:
        pictures, outputs = varied(examined, shape), ("logits", "probabilities")
        parts = [backend.answer(pictures[i : i + batch], outputs) for i in range(0, examined, batch)]
        answers = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        plain |= {output: answer.tolist() for output, answer in zip(outputs, answers, strict=True)}
    return json.dumps(plain)


def rate(ask: Callable[[], object], seconds: float) -> float:
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


def _in_a_process(
    run: Run, side: Side, threads: int, batch: int, seconds: float, examined: int
) -> tuple[Speed, Answered | None]:
    geometry = run.card.geometry
    shape = [geometry.size, geometry.size, run.card.channels]
    arguments = [str(side.graph), side.sha256, side.backend, shape, threads, batch, seconds, examined, side.weights]
    # Without -P, Python looks for every module in the current folder first, and that may hold strangers' files
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raised = [line for line in done.stderr.splitlines() if _RAISED.match(line)]
        reason = raised[-1] if raised else f"exit code {done.returncode}"
        raise RunError(f"{side.name} could not be measured with {run.path}: {printable(reason, 500)}")
    plain = json.loads(done.stdout.splitlines()[-1])
    speed = Speed(plain["start"], plain["one"], plain["many"])
    return speed, Answered(_floats(plain["logits"]), _floats(plain["probabilities"])) if examined else None


def _floats(numbers: object) -> Floats:
    return np.array(numbers, np.float32)
