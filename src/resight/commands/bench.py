"""``resight bench``: how fast a Run answers on this machine. Needs no PyTorch."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resight.commands.predict import resolve_run
from resight.errors import UsageError
from resight.images import Geometry, decode_for, printable
from resight.inference import ADAPTIVE, BACKENDS, BATCH, Speed, installed_backends
from resight.inference.backend import thread_count
from resight.inference.choose import choose, processor, remember
from resight.inference.measure import measure
from resight.inference.pipeline import map_ordered
from resight.inference.tiled import only_whole
from resight.runs import ONNX, Artifact, Run, artifact_names, open_artifact

PHOTO = (375, 500)
"""Height and width of the JPEG that decoding is measured with."""


@dataclass(frozen=True)
class Bench:
    """What was measured. speeds: by backend. decode: ``files`` of 500 × 375 a second to the network's square, all
    threads. chosen: what ``auto`` takes for one picture, and for many. stored: where ``auto`` finds it. artifacts: by
    name, what was exported and its speed, which ``auto`` never takes. silent: names of those that nothing here answers
    with, and why.
    """

    run: Path
    processor: str
    threads: int
    batch: int
    speeds: dict[str, Speed]
    decode: float
    chosen: dict[str, str]
    stored: Path
    files: str = "JPEG"
    artifacts: dict[str, tuple[Artifact, Speed]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Times in seconds, rates in pictures a second."""
        backends = [{"name": n, "version": BACKENDS[n].version, **asdict(s)} for n, s in self.speeds.items()]
        plain: dict[str, Any] = {"run": str(self.run), "processor": self.processor, "threads": self.threads}
        plain |= {"batch": self.batch, "backends": backends, "decode": self.decode}
        plain["artifacts"] = [_plain(artifact, speed) for artifact, speed in self.artifacts.values()]
        plain["not_measured"] = self.silent
        return plain | {"auto": self.chosen, "stored": str(self.stored)}

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{printable(str(self.run))}, {self.processor}, {self.threads} threads", ""]
        rows = {f"{name} {BACKENDS[name].version}": speed for name, speed in self.speeds.items()}
        rows |= {f"artifact {name}": speed for name, (_, speed) in self.artifacts.items()}
        width = max(24, *(len(name) + 1 for name in rows))
        heads = f"{'starts in':>12}{'one picture in':>17}{'one by one':>14}{f'{self.batch} at a time':>16}"
        lines.append(f"{'':{width}}{heads}")
        for name, speed in rows.items():
            times = f"{speed.start:>10.2f} s{1000 / speed.one:>14,.1f} ms"
            lines.append(f"{name:{width}}{times}{speed.one:>12,.1f}/s{speed.many:>14,.1f}/s")
        about = [_told(artifact) for artifact, _ in self.artifacts.values()]
        about += [f"artifact {name}: not measured, {printable(why)}" for name, why in self.silent.items()]
        lines += ["", *about] if about else []
        lines += ["", f"decoding {self.files} files of {PHOTO[1]} × {PHOTO[0]}: {self.decode:,.0f}/s"]
        for case, name in self.chosen.items():
            lines.append(f"--backend auto takes {name} for {case}")
        return "\n".join([*lines, f"stored for these threads and batches in {printable(str(self.stored))}"])


def bench(
    run: Run | str | Path,
    *,
    threads: int | None = None,
    batch: int = BATCH,
    seconds: float = 2.0,
    rounds: int = 3,
) -> Bench:
    """Measure every installed backend with this Run and store it for ``--backend auto``; also the Run's artefacts,
    which are never taken without being named.

    threads: for computing; default: all processors that this process may use. batch: pictures computed at a time by
    each thread, when many are asked for. What is measured decides only for the same threads and batch. seconds: for
    each rate. rounds: medians are of that many.

    Raises UsageError for wrong arguments, RunError for a Run that is missing, damaged, or answered differently by two
    backends; StorageError when the result cannot be stored.
    """
    for name, value in (("batch", batch), ("rounds", rounds)):
        if type(value) is not int or value < 1:
            raise UsageError(f"{name} is {value!r}; expected a whole number, 1 or more")
    if not 0 < seconds < float("inf"):
        raise UsageError(f"seconds is {seconds!r}; expected a number above 0")
    count = thread_count(threads)
    opened = resolve_run(run)
    only_whole(opened, "resight bench")
    opened.verify(ONNX)
    sha256 = opened.card.files[ONNX]
    exported, silent = _artifacts(opened)
    found = measure(
        opened, installed_backends(), count, batch=batch, seconds=seconds, rounds=rounds, artifacts=exported
    )
    speeds = {name: speed for name, speed in found.items() if name in BACKENDS}
    own = {one.card.name: (one, found[f"artifact {one.card.name}"]) for one in exported}
    stored = remember(sha256, count, batch, speeds)
    chosen = {
        "one picture": choose("auto", sha256, count, batch, pictures=1).name,
        "many": choose("auto", sha256, count, batch, callers=count).name,
    }
    files = "JPEG" if opened.card.channels in (1, 3) else f".npy (uint8, {opened.card.channels} channels)"
    decode = decode_rate(opened.card.geometry, opened.card.channels, count, seconds)
    return Bench(opened.path, processor(), count, batch, speeds, decode, chosen, stored, files, own, silent)


def _artifacts(run: Run) -> tuple[list[Artifact], dict[str, str]]:
    """Those that an installed backend answers with; the names of the others, and why. Raises RunError for one that is
    damaged.
    """
    found = [open_artifact(run, name) for name in artifact_names(run)]
    there = installed_backends()
    silent = {
        one.card.name: "no backend here answers with it"
        if one.card.backend is None
        else "its time depends on the pictures, and was measured with real ones when it was made: see its card"
        if one.card.backend == ADAPTIVE
        else f"{one.card.backend} is not installed"
        for one in found
        if one.card.backend not in there
    }
    measured = [one for one in found if one.card.name not in silent]
    for one in measured:
        one.verify()
    return measured, silent


def _told(artifact: Artifact) -> str:
    """What an artefact is, in a line; of int8 also what stayed in fp32."""
    card = artifact.card
    line = f"artifact {card.name}: {printable(card.precision)} by {card.backend}, {artifact.bytes / 1e6:,.1f} MB"
    if card.precision == "fp32" or card.routes:  # a route's own artefact says it
        return line
    return f"{line}; stayed in fp32: {', '.join(map(printable, card.fp32_layers)) or 'nothing'}"


def _plain(artifact: Artifact, speed: Speed) -> dict[str, Any]:
    card = artifact.card
    about = {"name": card.name, "precision": card.precision, "backend": card.backend, "bytes": artifact.bytes}
    return about | {"fp32_layers": list(card.fp32_layers), **asdict(speed)}


def decode_rate(geometry: Geometry, channels: int, threads: int, seconds: float) -> float:
    """Files a second, from bytes in memory to the network's square, in ``threads`` threads: JPEG, or, for other numbers
    of channels than grey's and RGB's, ``.npy``.
    """
    photo = _photo() if channels in (1, 3) else _array(channels)

    def prepare(_: int) -> None:
        geometry.apply(decode_for(geometry, photo, channels=channels))

    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        count += sum(1 for _ in map_ordered(prepare, range(16 * threads), threads=threads, window=4 * threads))
    return count / (time.perf_counter() - start)


def _photo() -> bytes:
    """A JPEG of smooth noise, about as large a file as a photo of its size."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(PHOTO[::-1], Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _array(channels: int) -> bytes:
    """An array of noise as ``.npy``."""
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(0).integers(0, 256, (*PHOTO, channels), dtype=np.uint8), allow_pickle=False)
    return stream.getvalue()
