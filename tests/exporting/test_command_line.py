"""`resight export` as a person calls it, and answering with what it made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.inference import tiny
from typer.testing import CliRunner

from resight import Predictor, Run, predict_to_file
from resight.cli import app
from resight.commands.export import export
from resight.errors import UsageError
from resight.runs import open_artifact
from resight.samples import load
from resight.serving.limits import Limits
from resight.serving.models import open_model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "colours", each=12)


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return tiny.make_run(tmp_path / "run", data=load(data))


def test_export_list_and_answer(run: Run, data: Path) -> None:
    call = CliRunner().invoke
    done = call(app, ["export", str(run.path), "--to", "onnx", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parity"]["max_abs"] == 0
    listed = call(app, ["export", str(run.path), "--list", "--json"])
    assert [one["name"] for one in json.loads(listed.stdout)] == ["onnx"]
    assert call(app, ["predict", str(run.path), str(data), "--artifact", "onnx"]).exit_code == 0
    assert call(app, ["eval", str(run.path), str(data), "--artifact", "onnx"]).exit_code == 0
    open_artifact(run, "onnx").graph.write_bytes(b"")
    assert call(app, ["export", str(run.path), "--list"]).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--to TARGET or --list"),
        (["--to", "onnx", "--list"], "--to TARGET or --list"),
        (["--list", "--name", "x"], "--name has no effect with --list"),
        (["--list", "--int8"], "--int8 has no effect with --list"),
        (["--to", "onnx", "--max-drop", "1"], "without --int8"),
        (["--to", "onnx", "--int8", "--name", "x"], "--name has no effect"),
        (["--to", "onnx", "--int8", "--images", "x"], "--images has no effect"),
        (["--to", "triton", "--int8"], "int8"),
        (["--to", "paper"], "no target"),
    ],
)
def test_wishes_that_cannot_be_met(run: Run, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["export", str(run.path), *arguments])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)


def test_what_an_artefact_cannot_do_is_refused(run: Run, data: Path) -> None:
    export(run, "onnx")
    call = CliRunner().invoke
    picture = str(next(data.rglob("*.png")))
    for arguments in (
        ["explain", str(run.path), picture, "--method", "occlusion"],
        ["explain", str(run.path), picture, "--sanity"],
    ):
        result = call(app, [*arguments, "--artifact", "onnx"])
        assert isinstance(result.exception, UsageError)
        assert "rtefact" in str(result.exception) or "--artifact" in str(result.exception)


def test_a_job_that_was_begun_with_another_artefact_is_refused(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, "onnx")
    out = tmp_path / "out.jsonl"
    monkeypatch.setattr("resight.commands.batch._published", lambda *_: 1 / 0)  # begun, and not finished
    with pytest.raises(ZeroDivisionError):
        predict_to_file(run, data, out, artifact="onnx")
    monkeypatch.undo()
    with pytest.raises(UsageError, match="artifact"):
        predict_to_file(run, data, out, resume=True)
    assert predict_to_file(run, data, out, artifact="onnx", resume=True).number == 36


def test_the_server_answers_with_an_artefact(run: Run) -> None:
    export(run, "onnx")
    loaded = open_model("m", run.path, backend="auto", limits=Limits(threads=1), artifact="onnx")
    assert loaded.card["artifact"] == "onnx"
    assert loaded.version == open_artifact(run, "onnx").sha256[:12]
    assert loaded.predictor.graph == Predictor(run, artifact="onnx").graph
