"""The models of one server, under names: opened in the background, replaced as a whole, never half."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resight.errors import ResightError, RunError
from resight.explaining import Head, head_of
from resight.images import printable
from resight.inference import Predictor
from resight.inference.tiled import only_whole
from resight.runs import ONNX, Run
from resight.serving.card import card_of
from resight.serving.limits import Limits
from resight.serving.logs import log
from resight.serving.metrics import Metrics
from resight.serving.refusals import Refused


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that answers. version: the first 12 digits of the hash of its graph. width: of an embedding.

    head: for maps of where the network looked; None where the network has none, and ``no_head`` says why.
    """

    name: str
    version: str
    predictor: Predictor
    width: int
    card: dict[str, Any]
    head: Head | None
    no_head: str = ""


def open_model(name: str, path: Path, *, backend: str, limits: Limits, artifact: str | None = None) -> Loaded:
    """Opens a Run, or an artefact of one, perhaps a stranger's: every file is compared with its hash. The one place
    where the server makes a Predictor. Both of its sessions are opened, and it has answered once in each way.

    Raises what ``Run.open`` and ``Predictor`` raise.
    """
    run = Run.open(path)
    only_whole(run, "resight serve")
    predictor = Predictor(run, artifact=artifact, backend=backend, threads=limits.threads, batch=limits.batch)
    square = predictor.card.geometry.size
    blank = _blank(square, run.card.channels)
    for alone in (False, True):
        *_, embedding = predictor.compute(blank, (*predictor.needed, "embedding"), alone=alone)
    head, no_head = None, ""
    try:
        if predictor.artifact is not None and predictor.artifact.card.no_maps:
            raise RunError("no maps", hint=predictor.artifact.card.no_maps)
        head = head_of(predictor)
    except RunError as error:
        no_head = error.hint or "this network has no class activation maps"
    own = predictor.artifact
    version = (run.card.files[ONNX] if own is None else own.sha256)[:12]
    card = card_of(name, version, predictor, limits)
    return Loaded(name, version, predictor, int(embedding.shape[1]), card, head, no_head)


def _blank(size: int, channels: int) -> Any:
    import numpy as np

    return np.zeros((1, size, size, channels), np.uint8)


@dataclass
class Slot:
    """One name. ``loaded``: what answers now. ``error``: why the last attempt failed, in words without paths."""

    name: str
    path: Path
    loaded: Loaded | None = None
    error: str | None = None
    opened: float = 0.0

    @property
    def state(self) -> str:
        if self.loaded is not None:
            return "ready" if self.error is None else "stale"
        return "loading" if self.error is None else "failed"


@dataclass(eq=False)
class Models:
    """All slots, the default first. ``open`` opens the model of a name and a path, in a thread."""

    paths: Mapping[str, Path]
    open: Callable[[str, Path], Loaded]
    metrics: Metrics
    slots: dict[str, Slot] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = {name: Slot(name, path) for name, path in self.paths.items()}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # one at a time: memory for one more at most
        self._wanted = asyncio.Event()
        for name in self.slots:
            self.metrics.ready.labels(name).set(0)
            self.metrics.stale.labels(name).set(0)

    async def run(self) -> None:
        """Opens all models, and again whenever ``reload`` was called; until cancelled."""
        self._wanted.set()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            for slot in self.slots.values():
                await self._open(slot)

    def reload(self) -> None:
        """Opens every Run anew from its path; what answers now answers until the new one is ready."""
        log("reload")
        self._wanted.set()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        return all(slot.loaded is not None for slot in self.slots.values())

    async def _open(self, slot: Slot) -> None:
        start = time.monotonic()
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._pool, self.open, slot.name, slot.path)
        except Exception as error:
            self._failed(slot, error)
        else:
            slot.loaded, slot.error, slot.opened = loaded, None, time.time()
            choice = loaded.predictor.choice
            log(
                "model",
                model=slot.name,
                version=loaded.version,
                state=slot.state,
                backend=choice.name,
                reason=choice.reason,
                seconds=round(time.monotonic() - start, 3),
            )
        result = "failed" if slot.error else "ok"
        self.metrics.loads.labels(slot.name, result).inc()
        self.metrics.ready.labels(slot.name).set(slot.loaded is not None)
        self.metrics.stale.labels(slot.name).set(slot.state == "stale")

    def _failed(self, slot: Slot, error: Exception) -> None:
        known = isinstance(error, ResightError)
        message = error.message if isinstance(error, ResightError) else "an unexpected error, see the log"
        slot.error = printable(message.replace(str(slot.path), slot.name))
        trace = {} if known else {"traceback": "".join(traceback.format_exception(error))}
        log("model", level="error", model=slot.name, state=slot.state, error=str(error), **trace)

    def slot(self, name: str | None) -> Slot:
        """By its name; the default without one. Raises Refused (404)."""
        if name is None:
            return next(iter(self.slots.values()))
        if name not in self.slots:
            known = ", ".join(self.slots)
            raise Refused(404, "missing", f"there is no model {printable(name, 100)!r}; there is: {known}")
        return self.slots[name]

    def get(self, name: str | None, version: str | None = None) -> Loaded:
        """What answers under this name now. Raises Refused: 404 for a name or version that is not there, 503 while it
        is opened or after that failed.
        """
        slot = self.slot(name)
        if slot.loaded is None and slot.error is not None:
            raise Refused(503, "failed_to_load", f"the model {slot.name} could not be opened: {slot.error}")
        if slot.loaded is None:
            raise Refused(503, "loading", f"the model {slot.name} is being opened", retry_after=2)
        if version is not None and version != slot.loaded.version:
            found = f"the model {slot.name} has the version {slot.loaded.version}"
            raise Refused(404, "missing", f"{found}, not {printable(version, 100)!r}")
        return slot.loaded
