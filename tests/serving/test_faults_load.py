"""Faults of time and number: bursts, loading, clients that leave or are slow, deadlines, connections."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.inference.tiny import make_run

from resight.runs import Run
from resight.serving import connections
from resight.serving.limits import Limits

from .live import LIMITS, encoded, head, held, post, serving, until


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
