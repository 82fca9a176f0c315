"""``tune`` and ``lr-find`` with real trainings: interrupted and gone on with, the test part untouched, what is made."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from tests.training.tiny import tiny_config, write_patterns

from resight.commands import resume as resuming
from resight.commands.lr_find import lr_find
from resight.commands.resume import resume
from resight.commands.train import train
from resight.commands.tune import Tuned, go_on, tune
from resight.errors import Interrupted, RunLocked, UsageError
from resight.exporting import seal as sealing
from resight.runs import CONFIG, ONNX, SPLIT, WEIGHTS, Run
from resight.runs.storage import exclusive
from resight.samples import SampleSet
from resight.training import prepare
from resight.training.progress import Lines
from resight.transfer import features, ladder
from resight.tuning import watch

SHARED: dict[str, Any] = {"model": "resnet20", "batch": 8, "workers": 0, "device": "cpu"}
SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "total_steps": 12, "threads": 1, "save_steps": 2}
TRIALS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("patterns") / "my dätä")


@pytest.fixture
def no_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing without graph and metrics, which takes seconds and is tested elsewhere."""

    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Any) -> None:
        for name in (WEIGHTS, ONNX):
            (run.path / name).write_bytes(b"not tested here")
        run.seal()

    monkeypatch.setattr(sealing, "seal", seal)
    monkeypatch.setattr(resuming, "_summary", lambda run, say: None)


def study(data: Path, out: Path, settings: dict[str, Any] | None = None, **options: Any) -> Tuned:
    more = {"trials": TRIALS, "space": ["lr", "mixup"], **SHARED, **options}
    return tune(data, out=out, set=SETTINGS | (settings or {}), **more)


def outcome(folder: Path) -> list[Any]:
    """What was found, without times and without places."""
    rows = json.loads((folder / "study.json").read_text("utf-8"))["result"]["trials"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


# ── the whole way, once ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Tuned, list[str]]:
    """A whole study, its best Run really sealed; and the parts of the data that were read before the seal."""
    parts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        read, seal = SampleSet.read, sealing.seal

        def reading(self: SampleSet, sample: Any, *args: Any, **kwargs: Any) -> Any:
            parts.append(sample.split)
            return read(self, sample, *args, **kwargs)

        def sealed(*args: Any, **kwargs: Any) -> Any:
            parts.append("the seal")
            return seal(*args, **kwargs)

        patch.setattr(SampleSet, "read", reading)
        patch.setattr(sealing, "seal", sealed)
        found = study(data, tmp_path_factory.mktemp("whole") / "my stüdy", seeds=1)
    return found, parts


def test_the_best_is_a_sealed_run_and_the_others_are_trained(whole: tuple[Tuned, list[str]]) -> None:
    found, _ = whole
    assert found.run.card.status == "sealed"
    assert set(found.run.card.metrics) == {"val", "test"}
    others = sorted(path for path in found.path.glob("trial-*") if path != found.run.path)
    assert len(others) == TRIALS - 1 + TRIALS
    assert all(Run.open(path, sealed=False).card.status == "trained" for path in others)
    assert not any(Run.open(path, sealed=False).card.metrics for path in others)


def test_the_test_part_is_read_by_the_seal_only(whole: tuple[Tuned, list[str]]) -> None:
    _, parts = whole
    before, after = parts[: parts.index("the seal")], parts[parts.index("the seal") :]
    assert set(before) == {"train", "val"}
    assert "test" in after
    assert parts.count("the seal") == 1


def test_all_trials_and_seeds_have_one_split(whole: tuple[Tuned, list[str]]) -> None:
    found, _ = whole
    runs = sorted(found.path.glob("trial-*"))
    assert len({(path / SPLIT).read_bytes() for path in runs}) == 1
    seeds = [json.loads((path / CONFIG).read_text("utf-8"))["seed"] for path in runs]
    assert seeds == [0, 1] * TRIALS


def test_its_command_trains_the_same_run(
    whole: tuple[Tuned, list[str]], tmp_path: Path, no_seal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command, through the real command line: the same configuration, split and history."""
    import shlex

    from typer.testing import CliRunner

    from resight.cli import app

    monkeypatch.chdir(tmp_path)
    found, _ = whole
    done = CliRunner().invoke(app, [*shlex.split(found.command)[1:], "--out", "again"])
    assert done.exit_code == 0, done.output
    for name in (CONFIG, SPLIT):
        assert (tmp_path / "again" / name).read_bytes() == (found.run.path / name).read_bytes()
    histories = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (found.run.path, tmp_path / "again")
    ]
    assert [e["val_loss"] for e in histories[0]] == [e["val_loss"] for e in histories[1]]


def test_what_it_says(whole: tuple[Tuned, list[str]]) -> None:
    found, _ = whole
    text = found.to_text()
    assert "the recipe's own" in text
    assert f"train it again: {found.command}" in text
    assert "test accuracy" in text
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["number"] for row in plain["trials"]] == list(range(TRIALS))
    assert plain["test"]["metrics"]["accuracy"]["value"] == found.run.metrics.top1
    with Image.open(found.path / "study.png") as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 1
    assert resume(found.path).path == found.run.path  # nothing left to do


# ── interrupted ────────────────────────────────────────────────────────────────────────────────────────────────


def test_stopped_by_a_signal_and_gone_on_with_nothing_is_lost(
    whole: tuple[Tuned, list[str]], tmp_path: Path, data: Path, no_seal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle of the second trial: the first is kept, the second goes on from its checkpoint, and all
    ends as in a study that was never stopped."""
    straight = whole[0].path
    real, asked = Lines.step, []

    def step(self: Lines, done: int, loss: float, rate: float) -> None:
        real(self, done, loss, rate)
        asked.append(done)
        if len(asked) == 17:  # trial 1, step 5
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Lines, "step", step)
    with pytest.raises(Interrupted, match="trial 1: stopped at step 5 of 12") as stopped:
        study(data, tmp_path / "stopped")
    assert stopped.value.exit_code == 143
    assert f"resight resume {tmp_path / 'stopped'}" in str(stopped.value)
    assert outcome(tmp_path / "stopped") == outcome(straight)[:1]
    asked.clear()
    monkeypatch.setattr(Lines, "step", lambda self, done, loss, rate: asked.append(done))
    go_on(tmp_path / "stopped")
    assert asked == [6, 7, 8, 9, 10, 11, 12], "from the checkpoint, not from the beginning"
    assert outcome(tmp_path / "stopped") == outcome(straight)


def test_killed_before_the_first_save_a_trial_starts_anew(
    whole: tuple[Tuned, list[str]], tmp_path: Path, data: Path, no_seal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At two moments: the Run's directory half made, and made but not begun."""

    class Killed(BaseException):
        pass

    def killed(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    from resight.samples import split_csv

    for where, name in ((split_csv, "write"), (watch.Watcher, "__init__")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, killed)
            with pytest.raises(Killed):
                study(data, tmp_path / "killed", trials=1)
        assert (tmp_path / "killed" / "trial-0000").is_dir()
    study(data, tmp_path / "killed", trials=1)
    assert outcome(tmp_path / "killed") == outcome(whole[0].path)[:1]


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_directory_that_is_taken(tmp_path: Path, data: Path, no_seal: None) -> None:
    run = train(data, out=tmp_path / "run", set=SETTINGS | {"total_steps": 1}, **SHARED)
    with pytest.raises(UsageError, match="holds a Run"):
        study(data, run.path)
    (tmp_path / "busy").mkdir()
    with exclusive(tmp_path / "busy"), pytest.raises(RunLocked):
        study(data, tmp_path / "busy")


def test_several_processes_are_refused(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        study(data, tmp_path / "study")


# ── the learning-rate finder ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_curve_is_drawn_and_no_run_is_made(tmp_path: Path, data: Path, ending: str) -> None:
    picture = tmp_path / f"lr.{ending}"
    settings = {"model.options.stem": "tiny", "threads": 1}
    found = lr_find(data, out=picture, updates=30, low=1e-4, high=1e3, set=settings, **SHARED)
    assert found.recipe_rate == 0.05
    assert found.curve.rates[0] == 1e-4
    assert picture.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    assert [path.name for path in tmp_path.iterdir()] == [picture.name]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(plain["rates"]) == len(plain["losses"]) == len(plain["smoothed"])
    assert str(picture) in found.to_text()
    if found.curve.suggestion is not None:
        assert f"--lr {found.curve.suggestion:g}" in found.to_text()


def test_the_finder_is_reproducible_and_follows_the_seed(tmp_path: Path, data: Path) -> None:
    settings = {"model.options.stem": "tiny", "threads": 1}

    def losses(seed: int) -> tuple[float, ...]:
        found = lr_find(data, out=tmp_path / "lr.svg", updates=10, seed=seed, set=settings, **SHARED)
        return found.curve.losses

    assert losses(1) == losses(1) != losses(2)


def test_features_alone_have_nothing_to_search_and_no_rate(tmp_path: Path, data: Path) -> None:
    for command in (tune, lr_find):
        with pytest.raises(UsageError, match="features alone") as refused:
            command(data, out=tmp_path / "lr.png", weights="tv_in1k", recipe="features")
        assert refused.value.exit_code == 2


def test_the_finder_says_that_the_last_layer_starts_anew(tmp_path: Path, data: Path) -> None:
    """Of a recipe whose training starts from the probe: the finder makes none."""
    net = prepare.build_net(tiny_config(data), 3, None, lambda _: None)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    more = {"weights": tmp_path / "w.safetensors", "set": {"threads": 1}, **SHARED}
    for recipe, anew in (("transfer", True), ("finetune", False)):
        found = lr_find(data, out=tmp_path / "lr.svg", updates=10, recipe=recipe, **more)
        assert found.to_dict()["last_layer_anew"] is anew
        assert ("the last layer starts anew" in found.to_text()) == anew


def test_what_has_no_effect_on_the_finder_is_refused(tmp_path: Path, data: Path) -> None:
    for field in ("schedule.name", "epochs", "optimizer.average_epochs", "data.start_scale"):
        with pytest.raises(UsageError, match=f"{field} has no effect"):
            lr_find(data, out=tmp_path / "lr.png", set={field: "cosine"})
    with pytest.raises(UsageError, match="--updates"):
        lr_find(data, out=tmp_path / "lr.png", updates=3)
    with pytest.raises(UsageError, match="--high must be above"):
        lr_find(data, out=tmp_path / "lr.png", low=1.0, high=0.1, **SHARED)


def test_features_are_computed_once_for_all_trials(
    data: Path, no_seal: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial has the probe that it would have alone, whatever rate or seed it searches."""
    net = prepare.build_net(tiny_config(data), 3, None, lambda _: None)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    real, asked = features.features_of, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["mirror"])
        return real(*args, **kwargs)

    monkeypatch.setattr(features, "features_of", counted)
    more = {"weights": tmp_path / "w.safetensors", "image_size": 28, "space": ["lr"], "seeds": 1}
    found = study(data, tmp_path / "study", {"total_steps": 2}, **more)
    assert asked == [True, False]  # the training pictures and their mirror images, and those of validation
    probes = sorted((tmp_path / "study").rglob(ladder.PROBE))
    assert len(probes) >= 1
    alone = train(
        data, out=tmp_path / "alone", weights=tmp_path / "w.safetensors", image_size=28,
        set=SETTINGS | {"total_steps": 2}, **SHARED,
    )  # fmt: skip
    assert len(asked) == 4
    card = found.run.card.transfer["probe"]
    assert card["sha256"] == alone.card.transfer["probe"]["sha256"]
