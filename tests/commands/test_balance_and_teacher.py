"""``train`` with ``balance`` and with a ``teacher``: what it writes down, what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import CLASSES, tiny_teacher, write_patterns

from resight.commands.resume import resume
from resight.commands.start import look, start
from resight.errors import RunError, UsageError
from resight.recipes import TrainConfig, balance_wishes
from resight.runs import CONFIG, HISTORY, WEIGHTS, Run

from .test_train import no_export, quick_train

__all__ = ["no_export"]
SMALL: dict[str, Any] = {"model.name": "resnet20", "model.options.stem": "tiny", "batch": 8, "total_steps": 2}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("uneven") / "data", (60, 24, 6))


def config_of(run: Run) -> TrainConfig:
    return TrainConfig.from_json(run.file(CONFIG).read_bytes(), CONFIG)


@pytest.mark.usefixtures("no_export")
def test_balance_sets_its_fields_and_selects_by_recall(uneven: Path, tmp_path: Path) -> None:
    run = quick_train(uneven, tmp_path / "run", balance="logit")
    config = config_of(run)
    assert (config.balance.logit_adjustment, config.select) == (1.0, "balanced")
    (entry,) = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
    assert 0 <= entry["val_recall"] <= 1
    plain = quick_train(uneven, tmp_path / "plain", balance="none")
    assert config_of(plain) == config_of(quick_train(uneven, tmp_path / "default"))
    assert "val_recall" not in plain.file(HISTORY).read_text()


def test_uneven_classes_are_said_with_the_remedy_unless_it_is_taken(uneven: Path, tmp_path: Path) -> None:
    for name in ("none", "weights"):
        said: list[str] = []
        wishes = SMALL | {"device": "cpu"}
        start(uneven, wishes | balance_wishes(name, wishes), None, tmp_path / name, said.append)
        text = "\n".join(said)
        assert "classes of very different size" in text
        assert ("--balance logit" in text) == (name == "none")


def test_balance_where_all_classes_are_equal_is_said_to_change_nothing(tmp_path: Path) -> None:
    data, said = write_patterns(tmp_path / "data"), []
    start(data, SMALL | {"device": "cpu", "balance.sampling": "balanced"}, None, tmp_path / "run", said.append)
    assert any("there is nothing for balance to correct" in line for line in said)


@pytest.mark.usefixtures("no_export")
def test_a_teacher_is_written_down_and_asked_for_again(
    uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny_teacher(tmp_path / "teacher", list(reversed(CLASSES)))
    monkeypatch.chdir(tmp_path)
    config = config_of(quick_train(uneven, tmp_path / "run", teacher="teacher"))
    assert config.distill.teacher == str(teacher.path)
    assert config.distill.sha256 == teacher.card.files[WEIGHTS]
    wishes = SMALL | {"device": "cpu", "distill.teacher": "teacher"}
    unfinished = start(uneven, wishes, None, tmp_path / "unfinished", lambda _: None)
    teacher.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="the teacher cannot be used") as refused:
        resume(unfinished.path)
    assert "restore it where it was" in str(refused.value)
    (tmp_path / "elsewhere").rename(teacher.path)
    assert resume(unfinished.path).card.status == "sealed"


def test_a_teacher_of_other_classes_is_refused_before_anything_is_written(uneven: Path, tmp_path: Path) -> None:
    tiny_teacher(tmp_path / "teacher", ["rows", "dots", "checks"])
    with pytest.raises(UsageError, match="it lacks columns; it has dots"):
        quick_train(uneven, tmp_path / "run", teacher=tmp_path / "teacher")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("given", ["distill.teacher", "model.weights", "a file of weights"])
def test_a_run_that_knows_what_is_tested_here_is_told(given: str, uneven: Path, tmp_path: Path) -> None:
    run, said = quick_train(uneven, tmp_path / "run", seed=1), []
    path = run.path / WEIGHTS if given == "a file of weights" else run.path
    wishes = {"device": "cpu", "batch": 8, given if "." in given else "model.weights": str(path)}
    for seed, expected in ((0, True), (1, False)):
        said.clear()
        look(uneven, wishes | {"seed": seed}, "quick", said.append)
        assert any("learned from" in line and "results will be too good" in line for line in said) == expected
