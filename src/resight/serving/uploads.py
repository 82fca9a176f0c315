"""The body of a request: bounded in bytes, in time and in parts, and given up as soon as one of these is exceeded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from resight.serving.admission import Ticket
from resight.serving.limits import MIB, Limits
from resight.serving.refusals import ClientGone, Refused, malformed, too_many


@dataclass(frozen=True)
class File:
    """One picture: its name as it was sent, ``#`` and its position without one."""

    name: str
    data: bytes


def check_head(headers: Headers, max_bytes: int) -> None:
    """Raises Refused for a body that is compressed, or said to be too large: before any of it is read."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(415, "unsupported", "compressed bodies are not accepted: send it without Content-Encoding")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise _too_large(int(length[:20]), max_bytes)


async def chunks(
    receive: Receive, headers: Headers, limits: Limits, ticket: Ticket, max_bytes: int | None = None
) -> AsyncIterator[bytes]:
    """The pieces of the body, counted on ``ticket``.

    Raises Refused for more than ``max_bytes`` (default: those of ``limits``; 413), for one that comes too slowly (408)
    and where too many bytes are held (429); ClientGone when the connection ends before.
    """
    most = limits.max_bytes if max_bytes is None else max_bytes
    check_head(headers, most)
    start, size, more = time.monotonic(), 0, True
    while more:
        allowed = start + limits.upload_seconds + size / limits.upload_rate - time.monotonic()
        try:
            async with asyncio.timeout(allowed):
                message = await receive()
        except TimeoutError:
            raise Refused(408, "slow", f"the body came too slowly: {size:,} bytes in time", close=True) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise _too_large(size, most)
        ticket.take(size=len(piece))
        yield piece
        more = message.get("more_body", False)


def _too_large(size: int, most: int) -> Refused:
    return Refused(
        413, "too_large", f"the body has {size / MIB:,.1f} MiB or more, more than the limit of {most / MIB:,.1f} MiB"
    )


async def read_all(
    receive: Receive, headers: Headers, limits: Limits, ticket: Ticket, max_bytes: int | None = None
) -> bytes:
    """The whole body. Raises as ``chunks``."""
    return b"".join([piece async for piece in chunks(receive, headers, limits, ticket, max_bytes)])


async def read_files(receive: Receive, headers: Headers, limits: Limits, ticket: Ticket) -> list[File]:
    """The pictures of a request, in order: the files of a form, or one body of a type image/…

    Raises as ``chunks``, and Refused for other types (415), a form that is malformed or has no file (400), and more
    files than allowed (413).
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind.startswith(b"image/"):
        return [File("#0", await read_all(receive, headers, limits, ticket))]
    if kind != b"multipart/form-data":
        shown = kind.decode("latin-1") or "no Content-Type"
        raise Refused(
            415, "unsupported", f"found {shown}; expected multipart/form-data with files, or one picture as image/…"
        )
    form = _Form(options.get(b"boundary", b""), limits.files)
    async for piece in chunks(receive, headers, limits, ticket):
        form.write(piece)
    return form.files()


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    pieces: list[bytes] = field(default_factory=list)


class _Form:
    """The files of a multipart body, collected in memory: no temporary files, and no more than are allowed."""

    def __init__(self, boundary: bytes, most: int) -> None:
        if not boundary:
            raise malformed("the multipart body has no boundary in its Content-Type")
        self._most, self._parts, self._ended = most, list[_Part](), False
        self._header = self._value = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": lambda: self._parts.append(_Part()),
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": lambda data, start, end: self._parts[-1].pieces.append(bytes(data[start:end])),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise malformed(f"the multipart boundary is not valid: {error}") from error

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise malformed(f"the multipart body is malformed: {error}") from error

    def files(self) -> list[File]:
        """All of them. Raises Refused unless the body came to its end."""
        if not self._ended:
            raise malformed("the multipart body is cut short: its last boundary is missing")
        if not self._parts:
            raise malformed("there is no file in the form")
        return [File(part.name, b"".join(part.pieces)) for part in self._parts]

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._parts[-1].headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        """A part is a file when it has a file name or a type of its own; parameters belong into the query."""
        part = self._parts[-1]
        if len(self._parts) > self._most:
            raise too_many(self._most)
        # latin-1 and back keeps every byte of the name
        disposition = part.headers.get(b"content-disposition", b"").decode("latin-1")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data":
            raise malformed("a part of the form has no Content-Disposition: form-data")
        if b"filename" not in options and b"content-type" not in part.headers:
            field_name = options.get(b"name", b"").decode("utf-8", "replace")[:100]
            raise malformed(f"the field {field_name!r} is not a file; parameters stand in the query: /predict?top=3")
        name = options.get(b"filename", b"").decode("utf-8", "surrogateescape")
        part.name = name or f"#{len(self._parts) - 1}"

    def _on_end(self) -> None:
        self._ended = True
