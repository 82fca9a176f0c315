"""One connection: uvicorn's protocol over h11, with what strangers must not be able to do to it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from resight.inference import dump_json
from resight.serving.limits import Limits
from resight.serving.metrics import Metrics

HEAD_SECONDS = 10.0
"""How long a connection may take to send a whole request's head, from its beginning or the last answer on; and how long
the rest of a body is still thrown away after an early refusal, so that the client can read it."""


def protocol_class(limits: Limits, metrics: Metrics) -> type[H11Protocol]:
    """The class that uvicorn makes one of for each connection."""

    class Connection(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(503, "connections", "too many connections are open: ask again later")
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_timer()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def shutdown(self) -> None:
            try:
                super().shutdown()
            except h11.LocalProtocolError:  # a client that broke the protocol: nothing is owed to it
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "malformed", "this is not a valid HTTP request")

        def _refuse(self, status: int, reason: str, message: str) -> None:
            """An answer without the application: to what is no request, or where none is taken."""
            metrics.requests.labels("none", str(status)).inc()
            metrics.rejections.labels(reason).inc()
            request_id = uuid.uuid4().hex
            content = dump_json({"error": message, "request_id": request_id}).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                (b"x-request-id", request_id.encode()),
                (b"connection", b"close"),
            ]
            events: list[Any] = [h11.Response(status_code=status, headers=headers), h11.Data(data=content)]
            try:
                for event in (*events, h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            except h11.LocalProtocolError:  # an answer has begun: the broken connection is all that can be told
                pass
            self.transport.close()

        def _watch(self) -> None:
            """Waits for a whole head, except while a request is being answered."""
            busy = self.cycle is not None and not self.cycle.response_complete
            if busy or self.transport.is_closing():
                self._stop_timer()
            elif self._timer is None:
                self._timer = self.loop.call_later(HEAD_SECONDS, self._expired)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _expired(self) -> None:
            self._timer = None
            self.transport.close()

    return Connection
