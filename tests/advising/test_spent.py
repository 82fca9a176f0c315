"""What a training took, over interruptions and resumptions."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from resight.errors import RunError
from resight.images import Geometry
from resight.runs import ADVICE, ONNX, WEIGHTS, Architecture, Run, RunCard
from resight.training import spent


@pytest.fixture
def run(tmp_path: Path) -> Run:
    geometry = Geometry("crop", 32, 32)
    card = RunCard(Architecture("resnet20"), ("a", "b"), 1, geometry, (0.5,), (0.5,))
    made = Run.create(tmp_path / "run", card)
    for name in (WEIGHTS, ONNX):
        (made.path / name).write_bytes(b"not read here")
    return made


def advised(run: Run) -> dict[str, object]:
    return dict(json.loads((run.path / ADVICE).read_bytes()))


def test_one_session_is_compared_and_sealed(run: Run) -> None:
    said: list[str] = []
    spent.record(run.path, {"chosen": 0}, 50.0, 10**9, time.time() - 40)
    with spent.counted(run.path):
        spent.settle(run, said.append)
        run.seal()
    actual = advised(run)["actual"]
    assert isinstance(actual, dict)
    assert actual["seconds"] == pytest.approx(40, abs=5)
    assert actual["memory"] > 10**7
    assert "50 s predicted, 4" in said[0]
    assert "sessions" not in advised(run)
    assert ADVICE in Run.open(run.path).card.files


def test_an_interrupted_training_counts_only_while_it_worked(run: Run) -> None:
    spent.record(run.path, {}, 50.0, 10**9, time.time() - 30)
    with pytest.raises(KeyboardInterrupt), spent.counted(run.path):
        raise KeyboardInterrupt
    plain = advised(run)
    sessions = plain["sessions"]
    assert isinstance(sessions, list)
    sessions[0]["begun"] -= 1000  # the time between the two sessions
    (run.path / ADVICE).write_text(json.dumps(plain))
    with spent.counted(run.path):
        spent.settle(run, lambda _: None)
    actual = advised(run)["actual"]
    assert isinstance(actual, dict)
    assert actual["sessions"] == 2
    assert actual["seconds"] == pytest.approx(30, abs=5)


def test_after_a_kill_the_time_is_not_known_and_said(run: Run) -> None:
    said: list[str] = []
    spent.record(run.path, {}, 50.0, 10**9, time.time() - 30)
    plain = advised(run)
    assert isinstance(plain["sessions"], list)
    plain["sessions"][0]["process"] = "another one, which was killed"
    (run.path / ADVICE).write_text(json.dumps(plain))
    with spent.counted(run.path):
        spent.settle(run, said.append)
    actual = advised(run)["actual"]
    assert isinstance(actual, dict)
    assert actual["seconds"] is None
    assert "not known" in said[0]


def test_without_advice_nothing_happens_and_a_damaged_one_is_refused(run: Run) -> None:
    with spent.counted(run.path):
        spent.settle(run, pytest.fail)
    assert not (run.path / ADVICE).exists()
    (run.path / ADVICE).write_text("{}")
    with pytest.raises(RunError, match="not an advice"), spent.counted(run.path):
        pass
