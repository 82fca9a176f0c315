"""Bodies in any pieces, and bodies that are not what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from resight.serving.admission import Admission
from resight.serving.limits import Limits
from resight.serving.metrics import Metrics
from resight.serving.refusals import ClientGone, Refused
from resight.serving.uploads import File, read_files

SMALL = Limits(threads=1, max_bytes=2000, queue=3, upload_seconds=0.2, upload_rate=1000)
NAMES = ["a.png", 'quo"te.png', "ünï 猫.png", "<script>alert(1)</script>.png", "=cmd|.png", "\u202egpj.exe"]


def read(body: Sequence[bytes], headers: dict[str, str], limits: Limits = SMALL, *, pause: float = 0) -> list[File]:
    """What the pieces of a body are read as."""

    async def main() -> list[File]:
        pieces = iter(body)
        left = len(body)

        async def receive() -> dict[str, Any]:
            nonlocal left
            await asyncio.sleep(pause)
            piece = next(pieces, None)
            left -= 1
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": left > 0 or pause > 0}

        admission = Admission(limits, Metrics())
        with admission.ticket() as ticket:
            return await read_files(receive, Headers(headers), limits, ticket)

    return asyncio.run(main())


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """By an independent writer: httpx."""
    request = httpx.Request("POST", "http://x", files=[("f", (name, data)) for name, data in files])
    return request.read(), {"content-type": request.headers["content-type"]}


@pytest.mark.parametrize("size", [1, 3, 17, 10_000])
def test_a_form_is_the_same_in_any_pieces(size: int) -> None:
    data = bytes(range(256)) + b"\r\n--boundary\r\n--" + b"\r\n" * 3
    body, headers = form([("one.png", data), ("two.png", b""), ("three.png", b"x")])
    pieces = [body[k : k + size] for k in range(0, len(body), size)]
    assert read(pieces, headers) == [File("one.png", data), File("two.png", b""), File("three.png", b"x")]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_that_were_sent(name: str) -> None:
    sent = name.replace("\\", "\\\\").replace('"', '\\"')
    head = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{sent}"\r\n\r\n'.encode()
    assert read([head + b"data\r\n--b--\r\n"], {"content-type": "multipart/form-data; boundary=b"})[0].name == name


def test_a_plain_picture_is_one_file() -> None:
    assert read([b"ab", b"c"], {"content-type": "image/jpeg"}) == [File("#0", b"abc")]


def part(text: str) -> bytes:
    return f"--b\r\n{text}\r\n\r\nx\r\n--b--\r\n".encode()


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"{}", "application/json", 415, "application/json"),
        (b"x", "", 415, "no Content-Type"),
        (b"x", "multipart/form-data", 400, "boundary"),
        (b"x", f"multipart/form-data; boundary={'b' * 500}", 400, "boundary"),
        (b"", "multipart/form-data; boundary=b", 400, "cut short"),
        (b"nonsense", "multipart/form-data; boundary=b", 400, "malformed"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 400, ""),
        (part('Content-Disposition: form-data; name="top"'), "multipart/form-data; boundary=b", 400, "'top'"),
        (part("X: y"), "multipart/form-data; boundary=b", 400, "Content-Disposition"),
        (part('Content-Disposition: form-data; filename="f"')[:-6], "multipart/form-data; boundary=b", 400, "short"),
        (part("A: " + "x" * 1900 + "\r\n" * 2), "multipart/form-data; boundary=b", 400, ""),
        (b"x" * 2001, "image/png", 413, "limit"),
    ],
)
def test_what_is_refused(body: bytes, kind: str, status: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read([body[:50], body[50:]], {"content-type": kind})
    assert refused.value.status == status
    assert said in refused.value.message


def test_more_files_than_allowed_are_refused_before_the_body_ends() -> None:
    body, headers = form([(str(k), b"x") for k in range(4)])
    with pytest.raises(Refused, match="more than 3") as refused:
        read([body[:-10]], headers)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "2001"}, 413),
        ({"content-length": "9" * 300}, 413),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "br, gzip"}, 415),
    ],
)
def test_heads_are_enough_to_refuse(headers: dict[str, str], status: int) -> None:
    with pytest.raises(Refused) as refused:
        read([], {"content-type": "image/png"} | headers)
    assert refused.value.status == status


def test_a_byte_now_and_then_is_too_slow_and_more_bytes_get_more_time() -> None:
    with pytest.raises(Refused) as refused:
        read([b"x"] * 1000, {"content-type": "image/png"}, pause=0.05)
    assert refused.value.status == 408
    with pytest.raises(ClientGone):  # 300 bytes in 0.3 s are in time: it is the client who leaves
        read([b"x" * 50] * 6, {"content-type": "image/png"}, pause=0.05)
