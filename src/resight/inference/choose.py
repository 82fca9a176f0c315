"""``auto``: which backend answers, by what was measured on this machine for this graph, and why.

A measurement is one JSON file for each ``model.onnx`` in ``$RESIGHT_CACHE/bench``, named by the graph's SHA-256. It
holds an entry for each processor, number of threads and batch that it was measured with; versions are part of an entry,
so that an upgrade makes it out of date and no wrong choice. Only ``resight bench`` writes it.
It decides speed, never answers.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from resight.errors import RunError, StorageError, UsageError
from resight.images import printable
from resight.inference.backend import AUTO, BACKENDS, PLANS, check_backend, installed_backends
from resight.runs import Artifact
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.storage import cache_directory, make_cache, write_atomic

SCHEMA = 1
FIRST = "onnxruntime"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Speed:
    """One backend's: seconds to start (import, open, first answer), pictures a second when asked for one after the
    other, and for many at once.
    """

    start: float
    one: float
    many: float

    def seconds(self, pictures: int | None, callers: int) -> float:
        """Expected for that many pictures; for None, an unknown large number, of one of them."""
        rate = self.one if callers == 1 else self.many
        return 1 / rate if pictures is None else self.start + pictures / rate


@dataclass(frozen=True)
class Choice:
    """A backend's name, the reason for it in plain words, and perhaps a note on a measurement that is of no use."""

    name: str
    reason: str
    note: str | None = None


def choose(
    backend: str, sha256: str | None, threads: int, batch: int, *, pictures: int | None = None, callers: int = 1
) -> Choice:
    """The backend that ``backend`` means: the name itself, or for ``auto`` the quickest as measured.

    sha256: of the graph. batch: pictures computed at a time. pictures: how many will be asked for, None: many. callers:
    how many at once. Without a measurement it is onnxruntime, which starts fastest. Raises what ``check_backend``
    raises.
    """
    check_backend(backend)
    if backend != AUTO:
        return Choice(backend, "it was asked for")
    names = installed_backends()
    if names == [FIRST]:
        return Choice(FIRST, "the only one installed")
    speeds, note = recall(sha256, threads, batch)
    known = {name: speeds[name].seconds(pictures, callers) for name in names if name in speeds}
    if len(known) < 2:
        how = f"resight bench RUN --threads {threads} --batch {batch}"
        return Choice(FIRST, f"which starts fastest; nothing was measured for this Run here ({how})", note)
    best = min(known, key=lambda name: known[name])
    others = ", ".join(
        f"{seconds / known[best]:.2f} times as long with {n}" for n, seconds in known.items() if n != best
    )
    how = "many pictures" if pictures is None else "1 picture" if pictures == 1 else f"{pictures:,} pictures"
    return Choice(best, f"as measured here, {how} would take {others}", note)


def only_choice(backend: str, artifact: Artifact) -> Choice:
    """The backend of an artefact. Raises UsageError where another is asked for, or none answers with it here;
    MissingExtra where it is not installed.
    """
    check_backend(backend)
    name, own = artifact.card.name, artifact.card.backend
    if own is None:
        raise UsageError(f"nothing here answers with the artefact {name!r}: it is for {artifact.card.target}")
    if own in PLANS and artifact.graph.suffix == ".json":
        if backend != AUTO:
            raise UsageError(
                f"the artefact {name!r} names the backends of its graphs itself", hint="leave --backend out"
            )
        return Choice(own, f"which the artefact {name} is for")
    if own not in BACKENDS or (artifact.graph.suffix == ".xml") != (own == "openvino"):
        raise RunError(
            f"{artifact.path} names a backend that cannot read it: {printable(own)!r}", hint="export it again"
        )
    check_backend(own)
    if backend not in (AUTO, own):
        raise UsageError(f"the artefact {name!r} is for {own}, not for {backend}", hint="leave --backend out")
    return Choice(own, f"which the artefact {name} is for")


def recall(sha256: str | None, threads: int, batch: int) -> tuple[dict[str, Speed], str | None]:
    """What was measured for this graph, on this processor, with these threads, this batch and the installed versions.

    Also a note where there is a file that cannot be used. Never raises.
    """
    path = _path(sha256)
    if path is None:
        return {}, None
    try:
        entries = _entries(path)
        found = entries.get(_key(threads, batch), {})
        return {name: Speed(**e["speed"]) for name, e in found.items() if e["version"] == _version(name)}, None
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        return {}, f"the measurement in {path} is of no use ({what}): make a new one with resight bench RUN"


def remember(sha256: str, threads: int, batch: int, speeds: Mapping[str, Speed]) -> Path:
    """Store what was measured, beside what other machines, threads and batches have. Raises StorageError."""
    path = _path(sha256)
    if path is None:
        raise StorageError(f"a measurement cannot be stored for a graph named {sha256!r}")
    try:
        entries = _entries(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        entries = {}  # none yet, or of no use
    entries[_key(threads, batch)] = {n: {"version": _version(n), "speed": asdict(s)} for n, s in speeds.items()}
    make_cache(path.parent)
    write_atomic(path, json_bytes({"schema": SCHEMA, "entries": entries}))
    return path


def _path(sha256: str | None) -> Path | None:
    return cache_directory("bench") / f"{sha256}.json" if sha256 and _SHA256.fullmatch(sha256) else None


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """Raises FileNotFoundError, and other errors for what is no such file."""
    plain = read_json(path.read_bytes())
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise ValueError("not of this version")
    for entry in plain["entries"].values():
        for backend in entry.values():
            for value in Speed(**backend["speed"]).__dict__.values():
                if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                    raise ValueError(f"a speed of {value!r}")
    entries: dict[str, dict[str, Any]] = plain["entries"]
    return entries


def _version(name: str) -> str | None:
    return BACKENDS[name].version if name in BACKENDS and BACKENDS[name].installed else None


def _key(threads: int, batch: int) -> str:
    return f"{processor()}, threads {threads}, batch {batch}"


@cache
def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return next(named, platform.processor() or platform.machine())
