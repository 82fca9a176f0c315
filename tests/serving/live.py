"""A real server: in a thread of this process, or a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from tests.inference.tiny import picture

from resight.serving.limits import Limits
from resight.serving.metrics import Metrics
from resight.serving.middleware import Hosts
from resight.serving.models import Loaded, Models, open_model
from resight.serving.server import Server, configured, listen
from resight.serving.service import Service

LIMITS = Limits(threads=1, drain_seconds=0.1)


def encoded(colour: str = "blue", seed: int = 0, *, side: int = 10, format: str = "PNG") -> bytes:
    """An encoded picture of that colour."""
    from io import BytesIO

    stream = BytesIO()
    Image.fromarray(picture(colour, seed, side)).save(stream, format)
    return stream.getvalue()


@dataclass
class Live:
    """A server that answers at ``client``."""

    service: Service
    port: int
    client: httpx.Client
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def exchange(self, data: bytes, patience: float = 20) -> bytes:
        """Sends bytes as they are, and returns all that comes until the server closes, or is silent for ``patience``
        seconds.
        """
        with self.connect() as sock:
            sock.settimeout(patience)
            found = b""
            with suppress(OSError):
                sock.sendall(data)
            with suppress(OSError):
                while piece := sock.recv(65536):
                    found += piece
            return found

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


def post(live: Live, data: bytes, name: str = "a.jpg", **query: str) -> Any:
    return live.client.post("/predict", files={"file": (name, data)}, params=query)


def head(length: int, path: str = "/predict") -> bytes:
    """Of a request with a body of so many bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: image/png", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def serving(
    runs: Mapping[str, Path],
    limits: Limits = LIMITS,
    *,
    change: Callable[[Loaded], Loaded] | None = None,
    wait: bool = True,
    allow_hosts: Sequence[str] = (),
    artifact: str | None = None,
) -> Iterator[Live]:
    """``change``: what becomes of each model once it is opened. wait: until all models are ready."""

    def open_(name: str, path: Path) -> Loaded:
        backend = "onnxruntime" if artifact is None else "auto"
        found = open_model(name, path, backend=backend, limits=limits, artifact=artifact)
        return change(found) if change else found

    sock = listen("127.0.0.1", 0)
    ready = threading.Event()
    made: list[Any] = []

    async def main() -> None:
        metrics = Metrics()
        service = Service(limits, Models(runs, open_, metrics), metrics)
        server = Server(configured(service, Hosts.of("127.0.0.1", allow_hosts)))
        made.extend([service, server, asyncio.get_running_loop()])
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not (server.started and (not wait or service.models.ready)) and not task.done():
            await asyncio.sleep(0.01)
        ready.set()
        await task

    thread = threading.Thread(target=partial(asyncio.run, main()), daemon=True)  # hung, it fails a test and ends
    port = sock.getsockname()[1]
    thread.start()
    try:
        assert ready.wait(60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield Live(made[0], port, client, made[2])
    finally:
        made[1].should_exit = True
        thread.join(60)
    assert not thread.is_alive()


class Held:
    """A Predictor whose network answers when it is let go."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self.go, self.asked = threading.Event(), threading.Semaphore(0)
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def compute(self, squares: Any, outputs: Any, *, alone: bool) -> Any:
        self.sizes.append(len(squares))
        self.asked.release()
        assert self.go.wait(30)
        return self._predictor.compute(squares, outputs, alone=alone)


@contextmanager
def held(runs: Mapping[str, Path], limits: Limits = LIMITS) -> Iterator[tuple[Live, Held]]:
    """A server whose network waits for ``go``."""
    found: list[Held] = []

    def change(model: Loaded) -> Loaded:
        found.append(Held(model.predictor))
        return replace(model, predictor=found[-1])  # type: ignore[arg-type]

    with serving(runs, limits, change=change) as live:
        try:
            yield live, found[0]
        finally:
            found[0].go.set()


class Process:
    """``resight serve`` in a process of its own. ``log()``: its lines so far."""

    def __init__(self, folder: Path, *arguments: str | Path, wait: bool = True) -> None:
        self._log = folder / "log.jsonl"
        with self._log.open("wb") as stream:
            command = [sys.executable, "-m", "resight.cli", "serve", *map(str, arguments), "--port", "0"]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)
        self.url = self.wait_for("listening")["url"].rstrip("/")
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        if wait:
            until(lambda: self.client.get("/v2/health/ready").status_code == 200)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines() if line.endswith("}")]

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first line of the log with these fields, once it is there."""

        def find() -> dict[str, Any] | None:
            wanted = {"event": event, **fields}
            return next((line for line in self.log() if wanted.items() <= line.items()), None)

        found: dict[str, Any] = until(lambda: find() or (self._ended() and None))
        return found

    def _ended(self) -> None:
        assert self.process.poll() is None, self._log.read_text("utf-8")

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: Any) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of ``check``."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def logged(read: Callable[[], Any], request_id: str) -> list[dict[str, Any]]:
    """The lines of the log up to that of this request, each JSON: a line is written after its answer.

    read: ``capfd.readouterr``.
    """
    text: list[str] = []

    def there() -> bool:
        text.append(read().err)
        whole = "".join(text)
        return whole.endswith("\n") and request_id in whole

    until(there)
    return [json.loads(line) for line in "".join(text).splitlines()]


def squares(count: int, size: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
