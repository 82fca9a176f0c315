"""Places that a command would write to are looked at before it works."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.inference.tiny import make_run, write_folder
from typer.testing import CliRunner

from resight.cli import app
from resight.commands.doctor import examine
from resight.commands.eval import evaluate_run
from resight.commands.explain import explain
from resight.commands.outputs import check_outputs
from resight.errors import UsageError
from resight.runs import HISTORY


def test_what_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run").path
    (tmp_path / "folder").mkdir()
    wrong = {
        "both write": {"--a": tmp_path / "x", "--b": tmp_path / "folder" / ".." / "x"},
        "no folder": {"--a": tmp_path / "missing" / "x"},
        "not a regular file": {"--a": tmp_path / "folder"},
        "never changes": {"--a": run / HISTORY},
        "ends in .csv": {"--c": tmp_path / "picture.png"},
    }
    for said, outputs in wrong.items():
        with pytest.raises(UsageError, match=said):
            check_outputs(outputs, endings={"--c": (".csv",)})
    check_outputs({"--a": tmp_path / "new", "--b": None, "--c": tmp_path / "new.CSV"}, endings={"--c": (".csv",)})


def test_no_command_writes_into_a_run_or_over_a_picture(tmp_path: Path) -> None:
    run, data = make_run(tmp_path / "run"), write_folder(tmp_path / "data")
    picture = data / "red" / "0.png"
    before = picture.read_bytes()
    with pytest.raises(UsageError, match="never changes"):
        evaluate_run(run, data, predictions=run.path / HISTORY)
    for inside in (run.path, run.path / "explained"):
        with pytest.raises(UsageError, match="never changes"):
            explain(run, picture, out=inside)
    for options in ({"page": picture}, {"write_manifest": picture}):
        with pytest.raises(UsageError, match="ends in"):
            examine(data, **options)
    for command in (["predict", str(run.path), str(picture)], ["embed", str(run.path), str(picture)]):
        result = CliRunner().invoke(app, [*command, "--out", str(run.path / "out.npz")])
        assert isinstance(result.exception, UsageError)
        assert "never changes" in result.exception.message
    assert picture.read_bytes() == before
    assert not (run.path / "out.npz").exists()
    assert not (run.path / "explained").exists()


def test_two_ways_to_say_where_a_report_goes_contradict_each_other(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    result = CliRunner().invoke(app, ["eval", str(run.path), "--report", "--report-to", str(tmp_path / "x.html")])
    assert isinstance(result.exception, UsageError)
    assert "contradict" in result.exception.message
