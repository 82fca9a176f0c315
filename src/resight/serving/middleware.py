"""What is around every request: its id, who may ask, headers, one line in the log, one count in the metrics."""

from __future__ import annotations

import re
import time
import traceback
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resight.inference import dump_json
from resight.serving.logs import log
from resight.serving.metrics import Metrics
from resight.serving.page import POLICY
from resight.serving.refusals import ClientGone, Refused, malformed

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET = {"live", "ready", "metrics"}
"""Endpoints that are asked all the time: logged only when they fail."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CLIENT_GONE = 499
"""nginx's code for a request whose client has left: in the log and the metrics; nobody receives it."""


@dataclass(frozen=True)
class Hosts:
    """By which names the server may be asked. A page of another site can make a browser ask by that site's own name
    (DNS rebinding), so other names are refused.

    names: in lower case, without ports. addresses: whether any IP address is allowed too, for a server that listens on
    all of them; no name can be rebound to one.
    """

    names: frozenset[str]
    addresses: bool = False
    trusted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: str, allowed: Collection[str]) -> Hosts:
        """host: what the server listens on. allowed: further names, as of a proxy in front."""
        further = frozenset(name.lower().rstrip(".") for name in allowed)
        wide = host in ("0.0.0.0", "::", "")
        return cls(frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) | further, wide, further)

    def check(self, headers: Headers) -> None:
        """Raises Refused for a Host that is not ours (421), and a page of another origin (403)."""
        given = headers.getlist("host")
        if len(given) != 1:
            raise malformed("expected exactly one Host")
        name = _hostname(f"//{given[0]}")
        if not (name in self.names or (self.addresses and _is_address(name))):
            raise Refused(421, "host", "this server is not known by that Host; its operator can add it: --allow-host")
        origin = headers.get("origin")
        if origin is None:
            return
        if origin.partition("://")[2].lower() != given[0].lower() and _hostname(origin) not in self.trusted:
            raise Refused(403, "origin", "pages of other sites may not ask this server")


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """The outermost application. Every response has a request id; every error is JSON; nothing of ours is shown."""

    def __init__(self, app: ASGIApp, hosts: Hosts, metrics: Metrics) -> None:
        self.app, self.hosts, self.metrics = app, hosts, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, log={})
        scope["app"] = self  # the router then raises what it finds no route for, and answers nothing itself
        status, size = 0, 0

        async def tell(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    out.setdefault(name, value)
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        error = None
        try:
            self.hosts.check(headers)
            await self.app(scope, receive, tell)
        except ClientGone:
            status = CLIENT_GONE
            self.metrics.rejections.labels("gone").inc()
        except Exception as raised:
            if status:  # its beginning is sent: the connection ends, which the client sees
                raise
            error = _refusal(raised)
            self.metrics.rejections.labels(error.reason).inc()
            if error.status == 500:
                trace = "".join(traceback.format_exception(raised))
                log("bug", level="error", request_id=request_id, traceback=trace)
            await _response(error, raised, request_id)(scope, receive, tell)
        finally:
            self._record(scope, status or 500, size, start, request_id, error)

    def _record(
        self, scope: Scope, status: int, size: int, start: float, request_id: str, error: Refused | None
    ) -> None:
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")
        seconds = time.perf_counter() - start
        self.metrics.requests.labels(endpoint, str(status)).inc()
        self.metrics.request_seconds.labels(endpoint).observe(seconds)
        if endpoint in _QUIET and status == 200:
            return
        log(
            "request",
            request_id=request_id,
            client=(scope.get("client") or ("",))[0],
            method=scope["method"],
            path=scope["path"],
            status=status,
            milliseconds=round(1000 * seconds, 2),
            bytes=size,
            **({} if error is None else {"reason": error.reason, "error": error.message}),
            **scope["state"]["log"],
        )


def _refusal(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        known = {404: ("missing", "there is nothing at this path"), 405: ("method", "this path has other methods")}
        reason, message = known.get(error.status_code, ("malformed", str(error.detail)))
        return Refused(error.status_code, reason, message)
    return Refused(500, "failed", "the server failed at this request; its log says more, under the request id")


def _response(error: Refused, raised: Exception, request_id: str) -> Response:
    headers = dict(raised.headers or {}) if isinstance(raised, HTTPException) else {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.close:
        headers["Connection"] = "close"
    content = dump_json({"error": error.message, "request_id": request_id})
    return Response(content.encode("utf-8"), error.status, headers, "application/json")
