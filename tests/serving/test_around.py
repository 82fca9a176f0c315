"""Ids, hosts, origins, headers, parameters, logs: what is around every answer."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from resight.errors import RunError, UsageError
from resight.runs import Run
from resight.serving import page
from resight.serving.middleware import Hosts
from resight.serving.refusals import Refused
from resight.serving.server import frozen, run

from .live import LIMITS, Live, encoded, logged, serving

PATHS = ["/", "/models", "/v2", "/v2/health/live", "/metrics", "/openapi.json", "/nothing", "/page/nothing", "/predict"]


@pytest.mark.parametrize("path", PATHS)
def test_every_response_has_an_id_and_the_headers(live: Live, path: str) -> None:
    found = live.client.get(path)
    assert len(found.headers["X-Request-Id"]) == 32
    assert found.headers["Content-Security-Policy"] == page.POLICY
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in found.headers
    if found.status_code >= 400:
        assert found.json()["request_id"] == found.headers["X-Request-Id"]


def test_a_sane_id_is_kept_and_logged(live: Live, capfd: pytest.CaptureFixture[str]) -> None:
    given = {"X-Request-Id": "trace-1.a_B"}
    found = live.client.post("/predict", files={"f": encoded()}, headers=given)
    assert found.headers["X-Request-Id"] == found.json()["request_id"] == "trace-1.a_B"
    line = next(one for one in logged(capfd.readouterr, "trace-1.a_B") if one.get("request_id") == "trace-1.a_B")
    assert (line["status"], line["model"], line["pictures"]) == (200, "colours", 1)
    for bad in ("x" * 65, "a b", "é".encode(), b"<b>"):
        assert live.client.get("/v2", headers={"X-Request-Id": bad}).headers["X-Request-Id"].isalnum()


def test_probes_are_quiet_in_the_log(live: Live, capfd: pytest.CaptureFixture[str]) -> None:
    probes = ("/v2/health/live", "/v2/health/ready", "/metrics")
    for path in probes:
        assert live.client.get(path).status_code == 200
    live.client.get("/v2", headers={"X-Request-Id": "after-the-probes"})
    assert not [line for line in logged(capfd.readouterr, "after-the-probes") if line.get("path") in probes]


@pytest.mark.parametrize(
    ("path", "status"), [("/predict", 405), ("/nothing", 404), ("/v2/", 404), ("/v2/models/other", 404)]
)
def test_other_methods_and_paths_are_json(live: Live, path: str, status: int) -> None:
    found = live.client.get(path)
    assert (found.status_code, list(found.json())) == (status, ["error", "request_id"])
    if status == 405:
        assert found.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("top=0", 400, "top"),
        ("top=-1", 400, "top"),
        ("top=x", 400, "top"),
        ("top=²", 400, "top"),
        ("top=1&top=2", 400, "twice"),
        ("topp=3", 400, "'topp'"),
        ("model=other", 404, "'other'; there is: colours, again"),
        ("model=%00%1b[31m", 404, r"\x1b"),
    ],
)
def test_parameters_that_are_wrong(live: Live, query: str, status: int, said: str) -> None:
    found = live.client.post(f"/predict?{query}", files={"f": encoded()})
    assert found.status_code == status
    assert said in found.json()["error"]


def test_explain_takes_one_picture_and_classes_that_are_there(live: Live) -> None:
    two = [("f", ("a", encoded())), ("f", ("b", encoded()))]
    assert live.client.post("/explain", files=two).status_code == 400
    assert live.client.post("/explain?class=cat", files=two[:1]).status_code == 404
    assert live.client.post("/explain?top=1", files=two[:1]).status_code == 400


def headers(host: str, origin: str | None = None) -> Headers:
    return Headers({"host": host} | ({"origin": origin} if origin else {}))


LOCAL, WIDE = Hosts.of("127.0.0.1", ["cats.example.org"]), Hosts.of("0.0.0.0", [])


@pytest.mark.parametrize(
    ("hosts", "host", "origin"),
    [
        (LOCAL, "localhost", None),
        (LOCAL, "LOCALHOST:8000", "http://localhost:8000"),
        (LOCAL, "127.0.0.1:80", "http://127.0.0.1:80"),
        (LOCAL, "[::1]:8000", "http://[::1]:8000"),
        (LOCAL, "cats.example.org", "https://cats.example.org"),
        (LOCAL, "127.0.0.1:8000", "https://cats.example.org"),  # a proxy that asks by the address
        (WIDE, "192.168.3.4:8000", "http://192.168.3.4:8000"),
        (WIDE, "[fe80::1]:8000", None),
    ],
)
def test_hosts_that_are_ours(hosts: Hosts, host: str, origin: str | None) -> None:
    hosts.check(headers(host, origin))


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "status"),
    [
        (LOCAL, "evil.org", None, 421),
        (LOCAL, "localhost.evil.org", None, 421),
        (LOCAL, "localhost@evil.org", None, 421),
        (LOCAL, "192.168.3.4", None, 421),
        (LOCAL, "", None, 421),
        (LOCAL, "[", None, 421),
        (WIDE, "evil.org", None, 421),
        (LOCAL, "localhost:8000", "http://evil.org", 403),
        (LOCAL, "localhost:8000", "http://localhost:3000", 403),
        (LOCAL, "localhost:8000", "null", 403),
        (LOCAL, "localhost:8000", "http://[", 403),
        (WIDE, "10.0.0.1", "http://10.0.0.2", 403),
    ],
)
def test_fault_25_foreign_hosts_and_origins(hosts: Hosts, host: str, origin: str | None, status: int) -> None:
    with pytest.raises(Refused) as refused:
        hosts.check(headers(host, origin))
    assert refused.value.status == status


def test_a_foreign_page_cannot_ask(known: Run) -> None:
    with serving({"m": known.path}, allow_hosts=["cats.example.org"]) as live:
        files = {"f": encoded()}
        assert live.client.post("/predict", files=files, headers={"Origin": "http://evil.org"}).status_code == 403
        assert live.client.post("/predict", files=files, headers={"Host": "evil.org"}).status_code == 421
        assert live.client.post("/predict", files=files, headers={"Host": "cats.example.org"}).status_code == 200
        assert live.metric("resight_rejections_total", reason="origin") == 1
        assert "Access-Control-Allow-Origin" not in live.client.get("/v2").headers


def test_names_of_models(known: Run, tmp_path: Path) -> None:
    from resight.commands.serve import named_runs

    path = str(known.path)
    assert named_runs([path]) == {"colours": known.path}
    assert list(named_runs([f"a={path}", f"b={path}"])) == ["a", "b"]
    assert list(named_runs([path, path], ["one", "two"])) == ["one", "two"]
    odd = tmp_path / "a=b"
    odd.symlink_to(known.path)
    assert named_runs([f"x={odd}"]) == {"x": odd}
    (tmp_path / "current").symlink_to(known.path)  # the link is opened anew at a reload, not what it led to
    assert named_runs([tmp_path / "current"]) == {"current": tmp_path / "current"}
    for runs, names, said in (
        ([path, path], [], "two Runs have the name"),
        ([path], ["a", "b"], "2 names for 1"),
        ([f"a={path}"], ["b"], "--name"),
        ([path], ["a/b"], "cannot be a model's name"),
        ([path], [""], "cannot be a model's name"),
        ([], [], "no Run"),
    ):
        with pytest.raises(UsageError, match=said):
            named_runs(runs, names)
    with pytest.raises(RunError, match="nowhere"):
        named_runs(["runs/nowhere"])


def test_code_that_exists_is_left_out_of_collections() -> None:
    """A full collection stops the event loop: what was imported is not looked at while the server runs."""
    before = gc.get_freeze_count()
    with frozen():
        assert gc.get_freeze_count() > before + 10_000
    assert gc.get_freeze_count() == 0


def test_the_server_runs_with_its_code_left_out(known: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def run_(work: Any) -> None:
        counts.append(gc.get_freeze_count())
        work.cr_frame.f_locals["sock"].close()
        work.close()

    monkeypatch.setattr("resight.serving.server.asyncio.run", run_)
    monkeypatch.setattr("resight.serving.server.take_over_logging", lambda: None)
    run({"m": known.path}, host="127.0.0.1", port=0, backend="auto", artifact=None, limits=LIMITS)
    assert counts[0] > 10_000
