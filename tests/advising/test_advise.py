"""Advice for real, and trainings that follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from tests.training.tiny import load, tiny_config, tiny_teacher, write_patterns

import resight.advising.measure as measuring
import resight.commands.resume as resuming
import resight.exporting.seal as sealing
from resight.advising.facts import some
from resight.advising.timing import Nets, key_of
from resight.commands.advise import advise
from resight.commands.auto import resolve
from resight.commands.train import train
from resight.errors import UsageError
from resight.runs import ADVICE, CONFIG, ONNX, WEIGHTS, Run
from resight.training import prepare
from resight.training.balance import class_weights
from resight.training.distill import Distilled
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


def test_it_measures_the_whole_way_and_says_what_to_type(data: Path, tmp_path: Path) -> None:
    """With an objective that needs the classes' numbers of pictures, and another network."""
    said: list[str] = []
    teacher = tiny_teacher(tmp_path / "teacher").path
    settings = SETTINGS | {"balance.weights": "sqrt", "distill.teacher": str(teacher)}
    advice = advise(data, model="resnet20", seconds=1, set=settings, say=said.append)
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


def test_what_is_measured_is_the_objective_that_is_trained(tmp_path: Path) -> None:
    """The teacher answers, too; classes count as in the whole data set, not as in what was taken of it."""
    whole = load(write_patterns(tmp_path / "data", (40, 8, 5)))
    teacher = tiny_teacher(tmp_path / "teacher").path
    config = tiny_config(tmp_path / "data", {"balance.weights": "inverse", "distill.teacher": str(teacher)})
    few = some(whole, frozenset(sample.name for sample in whole.part("train")[:20]))
    nets = Nets(few, whole, [config], tmp_path, 0)
    training = nets._training(next(iter(nets.nets.values())), 28, 4)
    assert isinstance(training.objective, Distilled)
    expected = class_weights(whole.counts()["train"], config.balance)
    assert training.objective.labels.class_weights is not None
    assert training.objective.labels.class_weights.numpy() == pytest.approx(expected)


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("recipe", ["transfer", "features"])
def test_recipes_that_start_from_weights_take_them_and_refuse_none(recipe: str, data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "resnet20.safetensors"
    net = prepare.build_net(tiny_config(data), 5, None, lambda _: None)
    save_file(net.state_dict(), weights)
    fixed = {"threads": 1, "data.workers": 0, "device": "cpu"}
    advice = advise(data, weights=weights, recipe=recipe, budget="10m", set=fixed)
    assert advice.best.recipe == recipe
    assert f"--weights {weights}" in advice.command
    assert ("--epochs" in advice.command) == (recipe == "transfer")
    assert advice.best.epochs == advice.best.full  # a budget is no aim
    assert ", 0.0 epochs" not in "".join(advice.brief())
    wishes = fixed | {"model.weights": str(weights), "budget_seconds": 600}
    assert resolve(data, wishes, recipe, lambda _: None, scratch=False)[0].get("epochs", 1) > 0
    for none in (None, "none"):
        with pytest.raises(UsageError, match="say which: --weights"):
            advise(data, weights=none, recipe=recipe, set=fixed)


@pytest.mark.usefixtures("made_up")
def test_freezing_needs_weights_and_a_stage_that_is_there(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "resnet20.safetensors"
    save_file(prepare.build_net(tiny_config(data), 5, None, lambda _: None).state_dict(), weights)
    settings = {"threads": 1, "data.workers": 0, "device": "cpu"}
    assert advise(data, weights=weights, set=settings | {"model.freeze": "stage1"}).best.steps
    with pytest.raises(UsageError, match="no stage4"):
        advise(data, weights=weights, set=settings | {"model.freeze": "stage4"})
    with pytest.raises(UsageError, match="say which: --weights"):
        advise(data, set=settings | {"model.freeze": "stage1"})


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


def test_auto_looks_at_no_given_split(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--model auto would look at a split that is drawn anew") as refused:
        train(data, model="auto", split=tmp_path / "split.csv", out=tmp_path / "run")
    assert refused.value.exit_code == 2


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
