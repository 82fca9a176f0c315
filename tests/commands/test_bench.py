from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.inference import tiny
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.errors import RunError, UsageError
from resight.inference import Speed, installed_backends, measure
from resight.runs import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    return tiny.make_run(tmp_path / "run")


def test_every_backend_is_measured_and_stored_for_auto(run: Run, tmp_path: Path) -> None:
    found = resight.bench(run, threads=2, batch=2, seconds=0.02, rounds=1)
    assert list(found.speeds) == installed_backends() == ["onnxruntime", "openvino"]
    assert all(value > 0 for speed in found.speeds.values() for value in (speed.start, speed.one, speed.many))
    assert found.decode > 0
    assert found.stored.is_relative_to(tmp_path / "cache" / "bench")
    assert resight.Predictor(run, threads=2).choice.name == found.chosen["many"]
    assert resight.Predictor(run, threads=2, pictures=1).choice.name == found.chosen["one picture"]
    text = found.to_text()
    assert "openvino" in text
    assert str(run.path) in text
    assert "--backend auto takes" in text


def test_the_command_writes_json_to_stdout_only(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {name: Speed(1.0, 2.0, 3.0) for name in installed_backends()}
    monkeypatch.setattr("resight.commands.bench.measure", lambda *_, **__: speeds)
    result = CliRunner().invoke(app, ["bench", str(run.path), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert [b["name"] for b in plain["backends"]] == list(speeds)
    assert plain["backends"][0] | {"version": ""} == {
        "name": "onnxruntime",
        "version": "",
        "start": 1.0,
        "one": 2.0,
        "many": 3.0,
    }
    assert set(plain["auto"]) == {"one picture", "many"}
    assert "measuring" in result.stderr
    answer = CliRunner().invoke(app, ["predict", str(run.path), str(tiny.write_picture(tmp_path / "a.png", "red"))])
    assert answer.stderr.startswith("backend: onnxruntime, ")
    assert "red" in answer.stdout


def test_wrong_arguments(run: Run) -> None:
    for name, value in (("batch", 0), ("rounds", 0), ("threads", 0), ("seconds", 0.0), ("seconds", float("inf"))):
        with pytest.raises(UsageError, match=name):
            resight.bench(run, **{name: value})  # type: ignore[arg-type]


def test_a_changed_graph_is_not_measured(run: Run) -> None:
    (run.path / "model.onnx").write_bytes(tiny.graph(temperature=1.0).SerializeToString())
    with pytest.raises(RunError, match="changed after the Run was sealed"):
        resight.bench(run, threads=1, seconds=0.01, rounds=1)


def test_a_graph_that_no_backend_can_open_says_why(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run", model=b"<html>")
    with pytest.raises(RunError, match=r"onnxruntime could not be measured.*damaged"):
        resight.bench(run, threads=1, seconds=0.01, rounds=1)


def test_backends_that_differ_are_not_compared_by_speed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[0.5, 0.5], [0.6, 0.4]])
    monkeypatch.setattr(measure, "_in_a_process", lambda *_: (Speed(1.0, 1.0, 1.0), next(answers)))
    with pytest.raises(RunError, match="answer differently"):
        measure.measure(run, ["onnxruntime", "openvino"], 1, batch=1, seconds=1, rounds=1)
