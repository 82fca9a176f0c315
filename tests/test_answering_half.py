"""The answering half in an environment that really lacks PyTorch: what ``pip install resight`` gives."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.inference.tiny import make_run, write_folder, write_picture


def run_there(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m …`` of the environment without PyTorch."""
    python = os.environ.get("RESIGHT_ANSWERING_PYTHON")
    if not python:
        pytest.skip("RESIGHT_ANSWERING_PYTHON is not set: 'make test' makes that environment and sets it")
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run(
        [python, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_it_has_no_torch(tmp_path: Path) -> None:
    found = run_there("-c", "import importlib.util as u; print(u.find_spec('torch'))", cwd=tmp_path)
    assert found.stdout.strip() == "None"


def test_predict_and_eval_answer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    data = write_folder(tmp_path / "data")
    picture = write_picture(tmp_path / "sky.png", "blue")
    answer = run_there("-m", "resight.cli", "predict", str(run.path), str(picture), "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)[0]["label"] == "blue"
    scores = run_there("-m", "resight.cli", "eval", str(run.path), str(data), "--json", cwd=tmp_path)
    assert scores.returncode == 0, scores.stderr
    assert json.loads(scores.stdout)["evaluation"]["metrics"]["accuracy"]["value"] == 1.0


def test_bench_measures_what_is_installed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    found = run_there("-m", "resight.cli", "bench", str(run.path), "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert [backend["name"] for backend in json.loads(found.stdout)["backends"]] == ["onnxruntime"]


@pytest.mark.parametrize(
    "command",
    [
        ["train", "data"],
        ["resume", "run"],
        ["import", "weights.pth"],
        ["predict", "resnet50.tv2_in1k", "sky.png"],
        ["predict", "run", "sky.png", "--backend", "openvino"],
        ["eval", "run", "data", "--backend", "openvino"],
        ["explain", "run", "sky.png"],
        ["models"],
        ["preview", "data"],
        ["demo"],
    ],
)
def test_what_needs_more_says_what_to_install(tmp_path: Path, command: list[str]) -> None:
    write_folder(tmp_path / "data")
    write_picture(tmp_path / "sky.png", "blue")
    result = run_there("-m", "resight.cli", *command, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'resight[" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_whole_answering_tree_imports(tmp_path: Path) -> None:
    """Every module that the contract of pyproject.toml calls the answering half."""
    names = "resight.images resight.samples resight.runs resight.inference resight.evaluation resight.errors"
    found = run_there("-c", f"import {', '.join(names.split())}; print('fine')", cwd=tmp_path)
    assert found.stdout.strip() == "fine", found.stderr
