"""Signals, with real processes: the end without a dropped request, and reloading."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.inference.tiny import make_run

from resight.runs import Run

from .live import Process, encoded, held, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM and no SIGHUP to send")


def load(url: str, stop: threading.Event) -> list[Any]:
    """Asks without a pause until told to stop: the status of each answer, or what broke."""
    found: list[Any] = []
    data = encoded()
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        while not stop.is_set():
            try:
                found.append(client.post("/predict", files={"f": ("x.png", data)}).status_code)
            except httpx.ConnectError:
                return [*found, "closed"]  # nobody listens any more
            except httpx.HTTPError as error:
                found.append(repr(error))
    return found


def test_fault_17_sigterm_under_load_drops_nothing(known: Run, tmp_path: Path) -> None:
    stop = threading.Event()
    with Process(tmp_path, known.path, "--threads", "1") as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(load, server.url, stop) for _ in range(4)]
        until(lambda: len(server.log()) > 30)
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        ready = server.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["error"]) == (503, "the server is stopping")
        assert server.client.get("/v2/health/live").status_code == 200
        assert server.process.wait(30) == 0
        stop.set()
        answers = [answer for one in asked for answer in one.result()]
        assert set(answers) <= {200, 503, "closed"}
        assert answers.count(200) > 20
        assert answers.count(503) > 0
        assert server.log()[-1]["event"] == "stopped"


def test_what_is_accepted_is_answered_while_draining(known: Run) -> None:
    with held({"m": known.path}) as (live, net), ThreadPoolExecutor(3) as pool:
        post = live.client.post
        accepted = [pool.submit(post, "/predict", files={"f": encoded(seed=k)}) for k in range(3)]
        until(lambda: live.service.admission.pictures == 3)
        live.service.admission.draining = True
        refused = post("/predict", files={"f": encoded()})
        assert (refused.status_code, refused.headers["Retry-After"], refused.headers["Connection"]) == (
            503,
            "1",
            "close",
        )
        assert live.client.get("/v2/models/m/ready").status_code == 503
        net.go.set()
        assert [one.result().status_code for one in accepted] == [200] * 3


def test_a_second_signal_ends_at_once(known: Run, tmp_path: Path) -> None:
    with Process(tmp_path, known.path, "--threads", "1") as server:
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGINT)
        assert server.process.wait(20) == 128 + signal.SIGINT


def replace_run(path: Path, source: Path) -> None:
    """Puts another Run in place of the one at ``path``."""
    shutil.rmtree(path)
    shutil.copytree(source, path)


def test_fault_24_reload_swaps_a_good_run_and_keeps_the_old_one_instead_of_a_bad(tmp_path: Path) -> None:
    path = make_run(tmp_path / "served").path
    other = make_run(tmp_path / "other", classes=("azure", "lime", "rose", "grey")).path
    with Process(tmp_path, f"m={path}", "--threads", "1") as server:
        stop = threading.Event()
        ask = {"f": ("x.png", encoded("blue"))}

        def answer() -> dict[str, Any]:
            found: dict[str, Any] = server.client.post("/predict", files=ask).json()
            return found

        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(load, server.url, stop)
            first = answer()
            (path / "model.onnx").write_bytes(b"not a graph")
            server.signal(signal.SIGHUP)
            told = server.wait_for("model", level="error")
            assert "changed after the Run was sealed" in told["error"]
            assert told["state"] == "stale"
            assert answer()["version"] == first["version"]
            metadata = server.client.get("/v2/models/m")
            assert metadata.json()["parameters"]["state"] == "stale"
            assert "changed after" in metadata.json()["parameters"]["reload_error"]
            assert str(tmp_path) not in metadata.text
            assert server.client.get("/v2/health/ready").status_code == 200
            metrics = server.client.get("/metrics").text
            assert 'resight_model_stale{model="m"} 1.0' in metrics
            assert 'resight_model_loads_total{model="m",result="failed"} 1.0' in metrics
            replace_run(path, other)
            server.signal(signal.SIGHUP)
            second = until(lambda: (found := answer())["version"] != first["version"] and found)
            assert (first["predictions"][0]["label"], second["predictions"][0]["label"]) == ("blue", "azure")
            assert "reload_error" not in server.client.get("/v2/models/m").json()["parameters"]
            stop.set()
            assert set(loaded.result()) == {200}
        server.signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_reload_does_not_touch_what_is_being_computed(known: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(known.path, path)
    other = make_run(tmp_path / "other", classes=("azure", "lime", "rose", "grey")).path
    with held({"m": path}) as (live, net), ThreadPoolExecutor(1) as pool:
        first = pool.submit(live.client.post, "/predict", files={"f": encoded("blue")})
        assert net.asked.acquire(timeout=20)
        replace_run(path, other)
        old = live.service.models.slots["m"].loaded
        live.loop.call_soon_threadsafe(live.service.models.reload)
        until(lambda: live.service.models.slots["m"].loaded is not old)
        net.go.set()
        assert first.result().json()["predictions"][0]["label"] == "blue"
        assert first.result().json()["version"] == known.card.files["model.onnx"][:12]


def resight(*arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "resight.cli", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_what_cannot_begin_exits_with_2(known: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = resight(known.path, "--port", str(taken.getsockname()[1]))
        assert code == 2
        assert "another --port" in said
    code, said = resight(tmp_path / "nowhere")
    assert (code, "no Run" in said) == (2, True)


def test_pytorch_is_never_imported(known: Run) -> None:
    code = (
        "import sys, resight.serving.server, resight.commands.serve;"
        "print(sorted({'torch', 'pydantic', 'sklearn', 'onnx', 'jinja2', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, known: Run) -> None:
    from resight.commands import extras
    from resight.commands.serve import serve
    from resight.errors import MissingExtra

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(MissingExtra, match="serve") as missing:
        serve(known.path)
    assert "resight[serve]" in str(missing.value)


def test_every_line_of_the_log_is_json_also_of_libraries(known: Run, tmp_path: Path) -> None:
    with Process(tmp_path, known.path, "--threads", "1") as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            answer = b"".join(iter(partial(sock.recv, 65536), b""))  # until the server closes it
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"request_id"' in answer
        trailing = b'--b\r\nContent-Disposition: form-data; filename="f"\r\n\r\nx\r\n--b--\r\ntrailing'
        server.client.post("/predict", content=trailing, headers={"Content-Type": "multipart/form-data; boundary=b"})
        server.signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
        assert {"listening", "model", "request", "draining", "stopped"} <= {json.loads(line)["event"] for line in lines}


@pytest.mark.soak
@pytest.mark.parametrize("number", range(5))
def test_fault_17_five_times_of_five(known: Run, tmp_path: Path, number: int) -> None:
    test_fault_17_sigterm_under_load_drops_nothing(known, tmp_path)
