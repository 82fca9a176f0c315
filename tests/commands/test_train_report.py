"""Every training leaves a report in its Run, sealed with the rest."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tests.inference import tiny

from resight.commands.train import train
from resight.errors import MissingExtra, RunError
from resight.runs import REPORT, Run

pytest.importorskip("torch")


def test_the_report_belongs_to_the_sealed_run(tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "data", each=10)
    run = train(data, model="resnet20", epochs=1, out=tmp_path / "run", workers=0)
    assert REPORT in run.card.files
    page = run.read(REPORT).decode()
    assert "where it looked for" in page
    assert "How it was trained" in page
    assert {"auroc", "brier"} <= set(run.card.metrics["test"]["metrics"])
    assert len(page) < 600_000
    (run.path / REPORT).write_text("another", "utf-8")
    with pytest.raises(RunError, match=REPORT):
        Run.open(run.path)


def test_missing_libraries_are_an_error_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, find = tiny.write_folder(tmp_path / "data", each=10), importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "matplotlib" else find(name, *more)

    monkeypatch.setattr("resight.commands.extras.find_spec", without)
    with pytest.raises(MissingExtra):
        train(data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_report_stays_valid(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    assert REPORT not in run.card.files
    assert Run.open(run.path).card == run.card
