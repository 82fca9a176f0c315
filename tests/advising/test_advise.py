"""Advice for real, and trainings that follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import write_patterns

import resight.advising.measure as measuring
import resight.commands.resume as resuming
import resight.exporting.seal as sealing
from resight.advising.timing import key_of
from resight.commands.advise import advise
from resight.commands.auto import resolve
from resight.commands.train import train
from resight.errors import UsageError
from resight.runs import ADVICE, CONFIG, ONNX, WEIGHTS, Run
from resight.training.spent import settle

from .made_up import measured, net

SETTINGS = {"threads": 1, "data.workers": 0, "device": "cpu", "batch": 8}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_patterns(tmp_path / "data")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that nobody made: of all networks, or none of some."""

    def measure(facts: Any, configs: Any, seconds: float, say: Any, known: Any = None) -> Any:
        keys = list(dict.fromkeys(key_of(config) for config in configs))
        found = measured(keys[:-1] if len(keys) > 1 else keys, [config.data.image_size for config in configs])
        for number, key in enumerate(found.rates):  # later ones are larger
            found.rates[key] = net(train={32: 0.001 * (1 + number)}, one={32: 400.0 / (1 + number)})
        return found

    monkeypatch.setattr(measuring, "measure", measure)


def test_it_measures_the_whole_way_and_says_what_to_type(data: Path) -> None:
    said: list[str] = []
    advice = advise(data, model="resnet20", seconds=1, set=SETTINGS, say=said.append)
    best = advice.best
    assert len(advice.options) == 1
    assert best.measured
    assert best.parts["updates"] > 0.1
    assert sum(best.parts.values()) == pytest.approx(best.seconds)
    assert 3e8 < best.memory < 3e9
    assert best.parameters * 4 < best.size < best.parameters * 4 * 1.3
    assert 1 / 20_000 < best.latency < 1
    assert advice.command.startswith(f"resight train {data} --model resnet20 --image-size 28 --set")
    assert any("answers" in line for line in said)
    assert json.loads(json.dumps(advice.to_dict()))["chosen"] == 0


@pytest.mark.usefixtures("made_up")
def test_all_small_networks_are_considered_and_one_without_time_is_estimated(data: Path) -> None:
    advice = advise(data, set=SETTINGS)
    names = {option.candidate.model for option in advice.options}
    assert names == {"resnet20", "resnet32", "resnet44", "resnet56", "resnet18"}
    assert [option.measured for option in advice.options].count(False) == 1
    assert "~" in advice.to_text()


@pytest.mark.usefixtures("made_up")
def test_limits_that_nothing_keeps_are_bad_usage(data: Path) -> None:
    with pytest.raises(UsageError, match="--latency"):
        advise(data, latency="0.01ms", set=SETTINGS)
    with pytest.raises(UsageError, match="--size"):
        advise(data, size="10kB", set=SETTINGS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet19"}, "resnet19"),
        ({"image_size": "large"}, "--image-size"),
        ({"budget": "soon"}, "--budget"),
        ({"weights": "none_such"}, "none_such"),
        ({"plot": "advice.pdf"}, "--plot"),
        ({"seconds": 0}, "seconds"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_measured(
    data: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(measuring, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(UsageError, match=words):
        advise(data, set=SETTINGS, **options)


@pytest.mark.usefixtures("made_up")
def test_auto_trains_what_is_advised_and_keeps_what_was_predicted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Any) -> None:
        for name in (WEIGHTS, ONNX):
            (run.path / name).write_bytes(b"not tested here")
        settle(run, say)
        run.seal()

    monkeypatch.setattr(sealing, "seal", seal)
    monkeypatch.setattr(resuming, "_summary", lambda run, say: None)
    settings = SETTINGS | {"model.options.stem": "tiny"}
    run = train(data, model="auto", epochs=0.5, out=tmp_path / "run", set=settings)
    config = json.loads(run.read(CONFIG))
    record = json.loads(run.read(ADVICE))
    advised = record["advice"]["options"][record["advice"]["chosen"]]
    assert config["model"]["name"] == advised["candidate"]["model"] == run.card.architecture.name
    assert config["total_steps"] == advised["steps"] == 3
    assert record["predicted"]["seconds"] == pytest.approx(sum(advised["parts"].values()))
    assert 0 < record["actual"]["seconds"] < 300
    assert record["actual"]["memory"] > 10**8


@pytest.mark.usefixtures("made_up")
def test_a_budget_becomes_epochs_that_fit_it(data: Path) -> None:
    for budget in (60, 90):
        wishes, advice = resolve(data, SETTINGS | {"budget_seconds": budget}, None, lambda _: None, scratch=True)
        best = advice.best
        assert wishes["epochs"] == best.epochs
        assert best.seconds <= 0.9 * budget
        assert 0.5 * best.full <= best.epochs <= 4 * best.full
        assert "budget_seconds" not in wishes
        assert "model.weights" not in wishes
    with pytest.raises(UsageError, match="contradict"):
        advise(data, budget="90s", set=SETTINGS | {"epochs": 3})
