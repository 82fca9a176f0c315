"""The process: a socket, signals, and an end without a dropped request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvicorn

from resight.errors import UsageError
from resight.images import printable
from resight.serving.app import make_app
from resight.serving.connections import protocol_class
from resight.serving.limits import Limits
from resight.serving.logs import log, take_over_logging
from resight.serving.metrics import Metrics
from resight.serving.middleware import Hosts
from resight.serving.models import Models, open_model
from resight.serving.service import Service

_TICK = 0.02
_LAST = 0.2
"""Seconds in which a connection that came last may still send its request, and get its answer."""


class Server(uvicorn.Server):
    """uvicorn, except that signals are ours (``Stopping``): its own end with the signal, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound. Raises UsageError for a host or port that cannot be had."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
        if os.name == "posix":  # elsewhere it would let two programs share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"cannot listen on {printable(host)}, port {port}: {printable(str(error))}",
            hint="another program may use it: choose another --port, or 0 for any",
        ) from error
    return found


def run(
    runs: Mapping[str, Path],
    *,
    host: str,
    port: int,
    backend: str,
    artifact: str | None,
    limits: Limits,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serves until a signal says to stop; returns when everything accepted is answered."""
    sock = listen(host, port)
    take_over_logging()
    metrics = Metrics()
    models = Models(runs, partial(open_model, artifact=artifact, backend=backend, limits=limits), metrics)
    service = Service(limits, models, metrics)
    server = Server(configured(service, Hosts.of(host, allow_hosts)))
    with frozen():
        asyncio.run(_serve(server, service, sock, host))
    log("stopped")


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """What exists already, nearly all of it code, is not looked at by Python's garbage collections: a full one would
    stop every request for 25 ms. Models come later and go by their counts of references.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def configured(service: Service, hosts: Hosts) -> uvicorn.Config:
    """How uvicorn runs the application: no output, headers or trust of its own."""
    return uvicorn.Config(
        make_app(service, hosts),
        http=protocol_class(service.limits, service.metrics),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=max(1, round(service.limits.deadline)) + 5,
    )


async def _serve(server: Server, service: Service, sock: socket.socket, host: str) -> None:
    port = sock.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    stopping = Stopping(server, service, sock)
    stopping.install()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not (server.started or serving.done()):
        await asyncio.sleep(_TICK)
    log("listening", url=f"http://{shown}:{port}/", models=list(service.models.slots), pid=os.getpid())
    if sys.stderr.isatty():
        sys.stderr.write(f"open http://{shown}:{port}/   (Ctrl-C stops the server)\n")
    await serving


class Stopping:
    """What signals do. SIGTERM and SIGINT: not ready, nothing new, what is accepted is answered, then exit 0; a second
    one exits at once. SIGHUP, where there is one: all Runs are opened anew.
    """

    def __init__(self, server: Server, service: Service, sock: socket.socket) -> None:
        self._server, self._service, self._sock = server, service, sock
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._stop, number)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda n, _: loop.call_soon_threadsafe(self._stop, n))
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, self._service.models.reload)

    def _stop(self, number: int) -> None:
        if self._task is not None:
            log("killed", level="warning", signal=signal.Signals(number).name)
            os._exit(128 + number)
        log("draining", signal=signal.Signals(number).name, pending=self._service.admission.pictures)
        self._service.admission.draining = True
        self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """First ``ready`` says 503, and requests are refused in words; then what was accepted is waited for; then the
        last connections that the system has taken for us get an answer; then the socket is closed.
        """
        seen = time.monotonic() + self._service.limits.drain_seconds
        while time.monotonic() < seen or self._service.admission.pictures:
            await asyncio.sleep(_TICK)
        await self._take_last()
        await asyncio.sleep(_LAST)
        self._server.should_exit = True

    async def _take_last(self) -> None:
        """Stops listening: connections that wait in the system's queue would be broken by closing the socket."""
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":
            return
        listener = self._server.servers[0]
        loop.remove_reader(self._sock.fileno())
        config = self._server.config
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while True:
                accepted, _ = self._sock.accept()
                await loop.connect_accepted_socket(
                    lambda: config.http_protocol_class(  # type: ignore[call-arg]
                        config=config,
                        server_state=self._server.server_state,
                        app_state=self._server.lifespan.state,
                        _loop=loop,
                    ),
                    accepted,
                )
        listener.close()
