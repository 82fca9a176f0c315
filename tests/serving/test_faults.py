"""The faults of strangers, by their numbers in the list that this server was built against; 20 is in test_protocol."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
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
from resight.serving import connections
from resight.serving.limits import Limits

from .live import LIMITS, Live, encoded, held, logged, serving, until

HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)


def post(live: Live, data: bytes, name: str = "a.jpg", **query: str) -> Any:
    return live.client.post("/predict", files={"file": (name, data)}, params=query)


def head(length: int, path: str = "/predict") -> bytes:
    """Of a request with a body of so many bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: image/png", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


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


def test_fault_14_a_burst_is_refused_at_once_and_the_accepted_are_answered(known: Run) -> None:
    limits = replace(LIMITS, queue=4)
    with held({"m": known.path}, limits) as (live, net), ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(post, live, encoded(seed=k)) for k in range(4)]
        until(lambda: live.service.admission.pictures == 4)
        for _ in range(20):
            refused = post(live, encoded())
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["Retry-After"]) <= 30
            assert "again" in refused.json()["error"]
        # known from the head: nothing of the body was asked for
        with live.connect() as sock:
            sock.sendall(head(1000, "/v2/models/m/infer"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 429")
        net.go.set()
        assert [one.result().status_code for one in accepted] == [200] * 4
        assert live.metric("resight_rejections_total", reason="full") == 21
        assert live.metric("resight_requests_total", endpoint="predict", code="429") == 20
        assert live.metric("resight_requests_total", endpoint="infer", code="429") == 1
        assert live.metric("resight_batch_size_sum") == 4
        assert post(live, encoded()).status_code == 200
        assert live.metric("resight_pending") == live.metric("resight_pending_bytes") == 0


def test_fault_14_several_files_need_as_much_room(known: Run) -> None:
    with held({"m": known.path}, replace(LIMITS, queue=4)) as (live, net), ThreadPoolExecutor(1) as pool:
        files = [("f", (str(k), encoded(seed=k))) for k in range(3)]
        first = pool.submit(live.client.post, "/predict", files=files)
        until(lambda: live.service.admission.pictures == 3)
        assert live.client.post("/predict", files=files[:2]).status_code == 429
        assert live.client.post("/predict", files=[*files, *files]).status_code == 413
        net.go.set()
        assert len(first.result().json()["predictions"]) == 3


def test_fault_15_a_bad_picture_among_many_never_reaches_the_network(known: Run) -> None:
    with held({"m": known.path}) as (live, net):
        net.go.set()
        files = [("f", ("good", encoded())), ("f", ("bad", b"GIF89a")), ("f", ("good", encoded("red")))]
        answers = live.client.post("/predict", files=files).json()["predictions"]
        assert [answer["label"] for answer in answers] == ["blue", None, "red"]
        assert answers[1]["status"] == 422
        assert sum(net.sizes) == 2
        assert live.metric("resight_rejections_total", reason="undecodable") == 1


def test_fault_16_loading_is_alive_and_not_ready(known: Run) -> None:
    go = threading.Event()

    def slow(model: Any) -> Any:
        assert go.wait(30)
        return model

    with serving({"m": known.path}, change=slow, wait=False) as live:
        try:
            assert live.client.get("/v2/health/live").status_code == 200
            ready = live.client.get("/v2/health/ready")
            assert (ready.status_code, ready.json()["error"]) == (503, "m: loading")
            refused = post(live, encoded())
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
            assert live.client.get("/v2/models/m/ready").status_code == 503
            shown = live.client.get("/models").json()["models"][0]
            assert (shown["ready"], shown["version"], shown["classes"]) == (False, None, None)
            assert live.client.get("/").status_code == 200
        finally:
            go.set()
        until(lambda: live.client.get("/v2/health/ready").status_code == 200)
        assert post(live, encoded()).status_code == 200


def test_fault_16_a_model_that_cannot_be_opened_is_said_without_paths(known: Run, tmp_path: Path) -> None:
    broken = make_run(tmp_path / "broken").path
    (broken / "model.onnx").write_bytes(b"something else")
    with serving({"good": known.path, "bad": broken}, wait=False) as live:
        until(lambda: live.service.models.slots["bad"].error)
        assert live.client.get("/v2/health/live").status_code == 200
        ready = live.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["error"]) == (503, "bad: failed")
        found = post(live, encoded(), model="bad")
        assert found.status_code == 503
        assert "changed after" in found.json()["error"]
        assert str(tmp_path) not in found.text
        assert post(live, encoded()).status_code == 200
        assert live.metric("resight_model_ready", model="bad") == 0
        assert live.metric("resight_model_loads_total", model="bad", result="failed") == 1


def test_fault_19_a_client_that_leaves_is_forgotten(known: Run) -> None:
    """Its picture waits behind another one: it is never computed, and nothing stays."""
    with held({"m": known.path}) as (live, net), ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, live, encoded())
        assert net.asked.acquire(timeout=20)
        data = encoded("red")
        with live.connect() as sock:
            sock.sendall(head(len(data)) + data)
            until(lambda: live.service.batcher.waiting == 1)
        until(lambda: live.service.batcher.waiting == 0)
        until(lambda: live.service.admission.pictures == 1)
        net.go.set()
        assert first.result().status_code == 200
        assert sum(net.sizes) == 1
        assert live.metric("resight_requests_total", endpoint="predict", code="499") == 1
        assert live.metric("resight_pending_bytes") == 0
        with live.connect() as sock:  # in the middle of a body
            sock.sendall(head(len(data)) + data[:20])
            until(lambda: live.service.admission.bytes == 20)
        until(lambda: live.service.admission.bytes == 0)


def test_fault_19_a_byte_now_and_then(known: Run) -> None:
    with serving({"m": known.path}, replace(LIMITS, upload_seconds=0.3)) as live, live.connect() as sock:
        sock.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        )
        answer = b""
        sock.settimeout(0.05)
        for _ in range(99):
            try:
                answer = sock.recv(65536)
                break
            except TimeoutError:
                sock.sendall(b"x")
        assert answer.startswith(b"HTTP/1.1 408")
        assert live.metric("resight_rejections_total", reason="slow") == 1
        assert live.metric("resight_pending_bytes") == 0


@pytest.mark.parametrize("start", [b"", b"GET /models HTT", b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /mo"])
def test_fault_19_a_head_that_never_ends(known: Run, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with serving({"m": known.path}) as live, live.connect() as sock:
        sock.settimeout(0.05)
        sock.sendall(start)
        ended = time.monotonic() + 20
        while True:
            assert time.monotonic() < ended
            try:
                if not sock.recv(65536):
                    break  # the server has closed it
            except TimeoutError:
                if start:
                    sock.sendall(b"x")
            except OSError:
                break


def test_the_deadline_counts_the_queue_and_frees_it(known: Run) -> None:
    limits = replace(LIMITS, deadline=0.3)
    with held({"m": known.path}, limits) as (live, net), ThreadPoolExecutor(2) as pool:
        running = pool.submit(post, live, encoded())
        assert net.asked.acquire(timeout=20)
        waiting = pool.submit(post, live, encoded())
        assert [running.result().status_code, waiting.result().status_code] == [504, 504]
        assert live.metric("resight_pending") == 0
        assert live.service.batcher.waiting == 0
        net.go.set()
        until(lambda: post(live, encoded()).status_code == 200)
        assert max(net.sizes) == 1  # the one that waited was never computed
        assert live.metric("resight_rejections_total", reason="deadline") >= 2


def test_a_client_may_have_less_time(known: Run) -> None:
    with held({"m": known.path}) as (live, _):
        shape = [1, 8, 8, 3]
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": shape, "data": [0] * 192}
        request = {"inputs": [tensor], "parameters": {"timeout": 50_000}}
        assert live.client.post("/v2/models/m/infer", json=request).status_code == 504


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


def test_connections_are_bounded(known: Run) -> None:
    with serving({"m": known.path}, Limits(threads=1, connections=5)) as live:
        until(lambda: live.client.get("/v2/health/ready").status_code == 200)
        open_ = [live.connect() for _ in range(10)]
        answers = []
        for sock in open_:
            sock.settimeout(0.5)
            try:
                answers.append(sock.recv(65536)[:12])
            except TimeoutError:
                answers.append(b"")
            except OSError:
                answers.append(b"reset")
        assert answers.count(b"HTTP/1.1 503") == 6
        for sock in open_:
            sock.close()
        until(lambda: live.client.get("/v2/health/ready").status_code == 200)


def test_nothing_connects_to_elsewhere(monkeypatch: pytest.MonkeyPatch, known: Run) -> None:
    """Whatever a request names."""
    asked: list[Any] = []
    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda sock, to: asked.append(to) or real(sock, to))
    with serving({"m": known.path}) as live:
        post(live, b"https://example.org/cat.png", "https://example.org/cat.png", model="https://example.org")
        post(live, encoded())
        assert {to[1] for to in asked} == {live.port}
