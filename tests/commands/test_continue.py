"""``train --from RUN`` from the command to a sealed Run: order kept, new class learned, resumed exactly, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands.test_train import OPTIONS, SETTINGS, quick_train
from tests.training.tiny import CLASSES, digest, write_patterns
from typer.testing import CliRunner

from resight.cli import app
from resight.commands import train as command
from resight.commands.eval import evaluate_run
from resight.commands.explain import explain
from resight.commands.own_data import load_own
from resight.commands.resume import resume
from resight.commands.train import train
from resight.errors import DataError, Interrupted, RunError, UsageError
from resight.inference import Predictor
from resight.recipes import TrainConfig
from resight.runs import CHECKPOINTS, CONFIG, Run
from resight.runs.run import WEIGHTS
from resight.training import continuing
from resight.training.checkpoint import found
from resight.training.fit import Training

CONTINUED: dict[str, Any] = {"batch": 8, "workers": 0, "device": "cpu"}
STEPS: dict[str, Any] = {"total_steps": 40, "threads": 1}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("old")
    return quick_train(write_patterns(root / "data"), root / "run", {"total_steps": 60})


def with_new(old: Run, target: Path) -> Path:
    """The data of the Run and a class more, whose name comes first in natural order."""
    shutil.copytree(load_own(old).root, target)
    (target / "arcs").mkdir()
    y, x = np.mgrid[:28, :28]
    for number in range(20):
        random = np.random.default_rng(number)
        rings = (np.hypot(x - random.integers(5, 23), y - random.integers(5, 23)) // 3 % 2)[..., None]
        pixels = rings * random.integers(80, 200, 3) + random.integers(0, 40, (28, 28, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(target / "arcs" / f"{number:02d}.png")
    return target


def go_on(old: Run, data: Path, out: Path, settings: dict[str, Any] | None = None, **options: Any) -> Run:
    return train(data, from_run=old.path, out=out, set=STEPS | (settings or {}), **CONTINUED | options)


@pytest.fixture(scope="module")
def new(old: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("new")
    return go_on(old, with_new(old, root / "data"), root / "run")


def test_old_classes_keep_their_order_and_the_new_one_is_learned(old: Run, new: Run) -> None:
    card = new.card
    assert card.classes == (*CLASSES, "arcs")
    assert (card.architecture.name, card.architecture.options) == (
        old.card.architecture.name,
        old.card.architecture.options,
    )
    assert (card.geometry, card.mean, card.std, card.channels) == (old.card.geometry, old.card.mean, old.card.std, 3)
    told = card.continues
    assert (told["run"], told["sha256"], told["classes"]) == (str(old.path.resolve()), old.card.files[WEIGHTS], 3)
    assert told["kept"] == {"val": 6, "test": 6}
    assert old.card.files[WEIGHTS] in card.source
    arcs = {sample.source for sample in load_own(new).samples if new.classes[sample.label] == "arcs"}
    result = evaluate_run(new.path, part="all", threads=1)
    hit = [
        p == "arcs"
        for p, s in zip([new.classes[k] for k in result.predicted], result.sources, strict=True)
        if s in arcs
    ]
    assert np.mean(hit) > 0.7
    assert result.evaluation.metrics["accuracy"].value > 0.7
    config = json.loads(new.read(CONFIG))
    assert config["recipe"] == json.loads(old.read(CONFIG))["recipe"]


def test_everything_that_opens_its_data_has_the_runs_order(new: Run, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    samples = load_own(new)
    assert samples.classes == new.classes
    picture = samples.path(samples.samples[0])
    found = explain(new, [picture], out=tmp_path, faithful=False, threads=1).items[0]
    assert found.nearest[0].name == new.classes[samples.samples[0].label]


def test_before_the_first_step_the_odds_of_known_classes_are_those_of_the_run(
    old: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(command, "finish", lambda path, report: Run.open(path, sealed=False))
        started = go_on(old, with_new(old, tmp_path / "data"), tmp_path / "run")
    from resight.recipes import TrainConfig
    from resight.training.objective import Supervised

    config = TrainConfig.from_json(started.file(CONFIG).read_bytes(), "config.json")
    said: list[str] = []
    net = continuing.build(started.card, config, said.append).eval()
    assert said == ["the head keeps the rows of 3 classes; 1 start as their mean"]
    squares = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = net(Supervised(net, config).normalize(torch.from_numpy(squares).permute(0, 3, 1, 2)))
    before = Predictor(old, threads=1).run_pixels(squares).logits
    np.testing.assert_allclose(logits[:, :3].numpy(), before, atol=1e-4)
    np.testing.assert_allclose(logits[:, 3].numpy(), before.mean(1), atol=1e-4)


def test_an_interrupted_one_is_resumed_exactly(
    old: Run, new: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_own(new).root
    real, calls = Training.update, []

    def update(training: Training, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 17:
            raise Interrupted("stopped by the test", signal_number=15)
        return real(training, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", update)
        with pytest.raises(Interrupted):
            go_on(old, data, tmp_path / "run", {"save_steps": 5})
    assert found(tmp_path / "run" / CHECKPOINTS)
    with monkeypatch.context() as patch:  # not read again: the checkpoint has the weights
        patch.setattr(continuing, "read_weights", None)
        patch.setattr("resight.exporting.seal.seal", lambda run, *rest: None)
        patch.setattr("resight.commands.resume._summary", lambda run, say: None)
        with pytest.raises(RunError, match="not finished"):
            resume(tmp_path / "run")
    assert digest(tmp_path / "run") == digest(new.path)


def test_another_run_at_the_same_place_is_refused(old: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "old"
    shutil.copytree(old.path, copy)
    with monkeypatch.context() as patch:
        patch.setattr(command, "finish", lambda path, report: Run.open(path, sealed=False))
        train(with_new(old, tmp_path / "data"), from_run=copy, out=tmp_path / "run", set=STEPS, **CONTINUED)
    plain = json.loads((tmp_path / "run" / "run.json").read_text())
    plain["continues"]["sha256"] = "0" * 64
    (tmp_path / "run" / "run.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match="not the Run that this training continues"):
        resume(tmp_path / "run")
    shutil.rmtree(copy)
    with pytest.raises(RunError, match="is not a Run"):
        resume(tmp_path / "run")


def test_refusals_leave_nothing_behind(old: Run, tmp_path: Path) -> None:
    data = with_new(old, tmp_path / "data")
    out = tmp_path / "run"
    for options in ({"model": "resnet18"}, {"weights": "tv2_in1k"}, {"image_size": 64}, {"channels": 1}):
        with pytest.raises(UsageError, match="cannot be chosen with --from"):
            go_on(old, data, out, **options)
    with pytest.raises(UsageError, match="keep-absent"):
        train(data, keep_absent=True, out=out, set=SETTINGS, **OPTIONS)
    with pytest.raises(RunError, match="is not a Run"):
        train(data, from_run=tmp_path / "nothing", out=out)
    with pytest.raises(UsageError, match="the recipe transfer replaces it"):
        go_on(old, data, out, recipe="transfer")
    shutil.rmtree(data / "rows")
    with pytest.raises(DataError, match="rows"):
        go_on(old, data, out)
    done = CliRunner().invoke(app, ["train", str(data), "--from", str(old.path), "--out", str(out)])
    assert isinstance(done.exception, DataError)
    assert done.exception.exit_code == 2
    assert not out.exists()


def test_a_card_with_an_impossible_origin_is_refused(new: Run, tmp_path: Path) -> None:
    plain = json.loads(new.card.to_json())
    for wrong in ({"run": "x"}, {"run": "x", "sha256": "y", "classes": 9}, []):
        (tmp_path / "run.json").write_text(json.dumps(plain | {"continues": wrong}))
        with pytest.raises(RunError, match="continues"):
            Run.open(tmp_path)
    plain.pop("continues")
    (tmp_path / "run.json").write_text(json.dumps(plain))
    assert Run.open(tmp_path, verify=False).card.continues == {}  # as earlier versions wrote it


def test_a_balance_that_is_asked_for_takes_the_place_of_the_runs(
    old: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = continuing.open_base(old.path, keep_absent=False)
    assert base.config is not None
    base.config.balance.sampling, base.config.select, base.config.loss = "balanced", "balanced", "focal"
    monkeypatch.setattr(TrainConfig, "from_json", lambda *_: base.config.model_copy(deep=True))
    same, asked = (continuing.open_base(old.path, False, rebalance=anew).config for anew in (False, True))
    assert same is not None
    assert asked is not None
    assert (same.balance.sampling, same.select, same.loss) == ("balanced", "balanced", "focal")
    assert (asked.balance.sampling, asked.select, asked.loss) == ("none", "accuracy", "cross_entropy")
