"""``advice.json``: what was predicted for a training that was advised, and what it took.

A training may be interrupted and resumed: each process that works on it is a session, and the seconds of all count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from resight.errors import RunError
from resight.runs import ADVICE, Run
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.storage import write_atomic
from resight.training.memory import peak_memory
from resight.training.progress import duration

SCHEMA = 1


def record(path: Path, advice: Mapping[str, Any], seconds: float, memory: int, begun: float) -> None:
    """Writes ``advice.json`` into a new Run. seconds, memory (bytes): predicted. begun: of ``time.time()``."""
    predicted = {"seconds": seconds, "memory": memory}
    _write(path, {"schema": SCHEMA, "predicted": predicted, "sessions": [_session(begun)], "advice": advice})


@contextmanager
def counted(path: Path) -> Iterator[None]:
    """Counts what happens inside as a session of the Run's, where it was advised; also when it is interrupted."""
    plain = _read(path)
    if plain and "actual" not in plain:
        last = plain["sessions"][-1]
        if last["process"] != _process() or last["seconds"] is not None:  # not the one that has just made the Run
            plain["sessions"].append(_session(time.time()))
            _write(path, plain)
    try:
        yield
    except BaseException:
        plain = _read(path)
        if plain and "actual" not in plain:
            _end(plain["sessions"][-1])
            _write(path, plain)
        raise


def settle(run: Run, say: Callable[[str], None]) -> None:
    """Notes what the training took, and says how far the prediction was off. Nothing where it was not advised."""
    plain = _read(run.path)
    if not plain:
        return
    _end(plain["sessions"][-1])
    times = [session["seconds"] for session in plain["sessions"]]
    sessions = len(times)
    known = None not in times  # of one that was killed, nobody knows how long it worked
    plain["actual"] = {
        "seconds": sum(times) if known else None,
        "memory": max(session["memory"] or 0 for session in plain["sessions"]),
        "sessions": sessions,
    }
    del plain["sessions"]
    _write(run.path, plain)
    say(text(plain))


def text(plain: Mapping[str, Any]) -> str:
    """One line: predicted and actual, and the difference in percent of the actual."""
    predicted, actual = plain["predicted"], plain["actual"]

    def off(name: str) -> str:
        return f"{100 * (predicted[name] / actual[name] - 1):+.0f} %"

    def gigabytes(count: float) -> str:
        return f"{count / 1e9:.2f} GB"

    memory = f"memory {gigabytes(predicted['memory'])} predicted, {gigabytes(actual['memory'])} taken ({off('memory')})"
    if actual["seconds"] is None:
        return f"advice: {memory}; how long it took is not known, since a process that worked on it was killed"
    times = f"{duration(predicted['seconds'])} predicted, {duration(actual['seconds'])} taken ({off('seconds')})"
    return f"advice: {times}; {memory}"


def _session(begun: float) -> dict[str, Any]:
    return {"process": _process(), "begun": begun, "seconds": None, "memory": None}


def _end(session: dict[str, Any]) -> None:
    session["seconds"], session["memory"] = time.time() - session["begun"], peak_memory()


def _process() -> str:
    """This process, and no later one with its number."""
    return f"{os.getpid()} {psutil.Process().create_time():.2f}"


def _read(path: Path) -> dict[str, Any] | None:
    file = path / ADVICE
    if not file.is_file():
        return None
    try:
        plain = read_json(file.read_bytes())
        if plain["schema"] != SCHEMA:
            raise ValueError(f"schema {plain['schema']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is not an advice of this version: {error}", hint="remove it, or train again") from error
    return dict(plain)


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    write_atomic(path / ADVICE, json_bytes(plain))
