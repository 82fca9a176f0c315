"""The faults of strangers, by their numbers in the list that this server was built against: what is sent. 20 is in
test_protocol, what has to do with time and number in test_faults_load.
"""

from __future__ import annotations

import gzip
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.tiny import graph, make_run

from resight.runs import Run

from .live import LIMITS, Live, encoded, head, held, logged, post, serving, until

HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"%PDF-1.7\n" + bytes(100), 415, "PDF"),
        (HEIC, 415, "HEIC"),
        (b"<!doctype html><html>", 415, "HTML"),
        (b"II*\x00" + bytes(100), 415, "TIFF"),
        (b"\x93NUMPY\x01\x00" + bytes(100), 415, "NPY"),
        (b"", 422, "empty"),
        (encoded(side=40)[:-60], 422, ""),
    ],
)
def test_fault_09_what_is_no_picture(live: Live, data: bytes, status: int, said: str) -> None:
    found = post(live, data)
    assert found.status_code == status
    assert said in found.json()["error"]
    assert post(live, encoded()).status_code == 200


def test_fault_10_too_large_is_refused_from_the_head_and_the_client_can_read_it(known: Run) -> None:
    with serving({"m": known.path}, replace(LIMITS, max_bytes=10_000)) as live:
        with live.connect() as sock:  # not one byte of the body is sent
            sock.sendall(head(10**9))
            answer = sock.recv(65536)
            while b"limit" not in answer and (more := sock.recv(65536)):  # head and body may come apart
                answer += more
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"limit" in answer
        whole = post(live, bytes(3_000_000))  # all of it is sent, and the answer is still there to read
        assert whole.status_code == 413
        chunked = live.client.post(
            "/predict", content=(bytes(5000) for _ in range(3)), headers={"Content-Type": "image/png"}
        )
        assert chunked.status_code == 413
        assert post(live, encoded()).status_code == 200
        assert live.metric("resight_rejections_total", reason="too_large") == 3


def test_fault_13_answers_that_are_not_finite(tmp_path: Path) -> None:
    """The square that overflows gets the error, those in the same batch their answers."""
    layer = np.zeros((3, 4), np.float32)
    layer[:, 2:] = 3e38  # red and the mean: only a white picture is more than a float32 holds
    run = make_run(tmp_path / "run", model=graph(3, head=layer).SerializeToString())
    white = BytesIO()
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(white, "PNG")
    with held({"m": run.path}) as (live, net), ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, live, encoded("blue"))]
        assert net.asked.acquire(timeout=20)
        answers += [pool.submit(post, live, data) for data in (encoded("green"), white.getvalue(), encoded("blue"))]
        until(lambda: live.service.batcher.waiting == 3)
        net.go.set()
        assert [answer.result().status_code for answer in answers] == [200, 200, 500, 200]
        assert net.sizes[:2] == [1, 3]
        assert "failed" in answers[2].result().json()["error"]


def test_fault_15_a_bad_picture_among_many_never_reaches_the_network(known: Run) -> None:
    with held({"m": known.path}) as (live, net):
        net.go.set()
        files = [("f", ("good", encoded())), ("f", ("bad", b"GIF89a")), ("f", ("good", encoded("red")))]
        answers = live.client.post("/predict", files=files).json()["predictions"]
        assert [answer["label"] for answer in answers] == ["blue", None, "red"]
        assert answers[1]["status"] == 422
        assert sum(net.sizes) == 2
        assert live.metric("resight_rejections_total", reason="undecodable") == 1


NAMES = ["<script>alert(1)</script>.png", "=cmd|' /C calc'!A0.png", "\u202egnp.exe", "a'b.png"]


@pytest.mark.parametrize("name", NAMES)
def test_fault_21_file_names_come_back_exact_and_inert(
    live: Live, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    found = post(live, encoded(), name)
    assert found.json()["predictions"][0]["source"] == name
    assert found.headers["Content-Type"] == "application/json"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "\u202e" not in found.text
    live.client.get("/" + name, headers={"X-Request-Id": "evil\tid"})
    live.client.get("/v2", headers={"X-Request-Id": "the-last-one"})
    lines = logged(capfd.readouterr, "the-last-one")  # one object a line, whatever is in it
    assert len(lines) >= 3
    assert all("evil" not in line["request_id"] for line in lines)
    assert name not in live.client.get("/metrics").text


def bomb(side: int = 13_000) -> bytes:
    """A PNG of that many pixels a side, 20 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_fault_22_bombs_are_refused_from_their_heads(live: Live, known: Run) -> None:
    data = bomb()
    assert len(data) < 25_000
    found = post(live, data)
    assert found.status_code == 413
    assert "169.0 megapixels" in found.json()["error"]
    assert live.client.post("/explain", files={"f": data}).status_code == 413
    zipped = gzip.compress(bytes(10_000_000))
    headers = {"Content-Encoding": "gzip", "Content-Type": "image/png"}
    assert live.client.post("/predict", content=zipped, headers=headers).status_code == 415
    assert post(live, zipped).status_code == 415
    with serving({"m": known.path}, replace(LIMITS, max_pixels=99)) as small:
        assert post(small, encoded(side=9)).status_code == 200
        assert post(small, encoded(side=10)).status_code == 413


def test_fault_25_nothing_outside_is_read(live: Live) -> None:
    for path in ("/page/../serving/app.py", "/page//etc/passwd", "/../../etc/passwd", "/models/..%2f..%2fetc/card"):
        answer = live.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] == b"404", path
    named = post(live, b"file:///etc/passwd", "../../../etc/passwd")
    assert named.status_code == 415
    url = post(live, b"http://127.0.0.1:1/x.png", "http://127.0.0.1:1/x.png")
    assert url.status_code == 415


def test_fault_25_links_in_a_run_are_checked_by_their_content(tmp_path: Path, known: Run) -> None:
    other = make_run(tmp_path / "other").path
    (other / "model.onnx").unlink()
    (other / "model.onnx").symlink_to(known.path / "config.json")
    with serving({"bad": other}, wait=False) as live:
        until(lambda: live.service.models.slots["bad"].error)
        assert post(live, encoded()).status_code == 503


def test_nothing_connects_to_elsewhere(monkeypatch: pytest.MonkeyPatch, known: Run) -> None:
    """Whatever a request names."""
    asked: list[Any] = []
    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda sock, to: asked.append(to) or real(sock, to))
    with serving({"m": known.path}) as live:
        post(live, b"https://example.org/cat.png", "https://example.org/cat.png", model="https://example.org")
        post(live, encoded())
        assert {to[1] for to in asked} == {live.port}
