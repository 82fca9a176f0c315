"""FixRes: trained small, answered larger, and the last part of the training fits the two together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import resight
from resight.commands.preview import preview
from resight.errors import Interrupted, UsageError
from resight.models import create
from resight.recipes import TrainConfig, override
from resight.training import estimate
from resight.training.fit import Training
from resight.training.optim import rate_factor
from resight.training.parts import fix, last_norm
from resight.training.phases import FIX_RATE, augment_at, fix_start, rate_at, size_at, sizes_of

from .tiny import Recorder, again, digest, last, start, tiny_config, write_patterns

FIXED = {"data.fix_share": 0.5, "data.image_size": 36, "augment.mixup": 0.5}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("wide") / "data", height=40, width=52)


# ── what is a function of the step ─────────────────────────────────────────────────────────────────────────────


def test_the_last_share_of_the_updates_is_answered_in_size(wide: Path) -> None:
    config = tiny_config(wide, {**FIXED, "data.start_scale": 0.75, "total_steps": 20})
    assert fix_start(config) == 10
    sizes = [size_at(config, step) for step in range(20)]
    grown = override(config, {"data.fix_share": 0, "total_steps": 10})
    assert sizes == [size_at(grown, step) for step in range(10)] + [36] * 10
    assert sizes[0] < sizes[9] == 28 == sizes_of(config)[-1]
    assert augment_at(config, 9) == config.augment
    assert (augment_at(config, 10).crop, augment_at(config, 10).mixup) == ("none", 0)
    assert augment_at(config, 10).flip == config.augment.flip


@pytest.mark.parametrize(("share", "total", "first"), [(0, 9, 9), (0.1, 3, 2), (0.99, 10, 1), (0.5, 1, 1), (0.2, 0, 0)])
def test_there_is_always_an_update_before_it(wide: Path, share: float, total: int, first: int) -> None:
    assert fix_start(tiny_config(wide, {"data.fix_share": share, "total_steps": total})) == first


def test_the_rate_falls_to_zero_a_second_time(wide: Path) -> None:
    config = tiny_config(wide, {"data.fix_share": 0.25, "total_steps": 12})
    rates = [rate_at(config, step) for step in range(12)]
    assert rates[:9] == [config.optimizer.lr * rate_factor(config.schedule, step, 9) for step in range(9)]
    assert rates[9:] == pytest.approx([config.optimizer.lr * FIX_RATE * part for part in (1, 2 / 3, 1 / 3)])


def test_pictures_are_those_that_are_answered(wide: Path, tmp_path: Path) -> None:
    training = fixed(tmp_path / "run", wide, {"augment.flip": "none"})
    batch = training.loader.make(6)
    answered = training.loader.answered
    assert answered is not None
    expected = np.stack([answered[int(i)] for i in batch.indices])
    assert np.array_equal(batch.pixels.permute(0, 2, 3, 1).numpy(), expected)
    assert expected.shape[1:] == (36, 36, 3)
    assert training.loader.make(5).pixels.shape[2:] == (28, 28)


# ── what learns ────────────────────────────────────────────────────────────────────────────────────────────────


def fixed(path: Path, data: Path, changes: dict[str, Any] | None = None, report: Recorder | None = None) -> Training:
    return start(path, data, {**FIXED, **(changes or {})}, report)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_only_the_last_layer_and_norm_learn_from_the_averaged_weights(wide: Path, tmp_path: Path) -> None:
    training = fixed(tmp_path / "run", wide)
    for step in range(6):
        training.update(training.loader.make(step))
    assert training.average is not None
    averaged = {name: value.clone() for name, value in training.average.state.items()}
    assert changed(averaged, training.net.state_dict())
    for step in range(6, 12):
        training.update(training.loader.make(step))
    norm = "layer3.2.bn2"
    learned = {*(f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))}
    assert changed(averaged, training.net.state_dict()) == learned | {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet20", {}, "layer3.2.bn2"),
        ("resnet50", {}, "layer4.2.bn3"),
        ("preact_resnet18", {}, "norm.0"),
        ("resnet20", {"options": {"norm": "none"}}, ""),
        ("preact_resnet18", {"options": {"norm": "none"}}, ""),
        ("resnet20", {"freeze": "backbone"}, ""),
        ("resnet20", {"norms": "frozen"}, "layer3.2.bn2"),
    ],
)
def test_which_norm_is_the_last(name: str, options: dict[str, Any], expected: str) -> None:
    net = create(name, num_classes=3, **options.get("options", {}))
    config = override(TrainConfig(), {f"model.{key}": value for key, value in options.items()}).model
    fix(net, config)
    learning = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    assert learning == {"fc.weight", "fc.bias"} | ({f"{expected}.weight", f"{expected}.bias"} if expected else set())
    assert last_norm(net).training is ("norms" not in options and options.get("freeze") != "backbone")
    assert [module for module in net.modules() if module.training and module is not last_norm(net)] == []


# ── as everywhere ──────────────────────────────────────────────────────────────────────────────────────────────


RESUMED = {**FIXED, "augment.flip": "random", "save_steps": 1}


@pytest.fixture(scope="module")
def whole(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("fixing") / "whole"
    start(path, wide, RESUMED).fit()
    return digest(path)


@pytest.mark.parametrize("stop", [6, 9])
def test_resume_is_bitwise_at_the_border_and_behind_it(wide: Path, tmp_path: Path, stop: int, whole: Any) -> None:
    def interrupt(done: int) -> None:
        if done == stop:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        start(tmp_path / "halves", wide, RESUMED, Recorder(interrupt)).fit()
    assert last(tmp_path / "halves").state.step == stop
    again(tmp_path / "halves", wide, RESUMED).fit()
    assert digest(tmp_path / "halves") == whole


def test_it_trains_in_one_process(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        resight.train(wide, model="resnet8", set={"data.fix_share": 0.2}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_preview_has_none_of_it(wide: Path) -> None:
    with pytest.raises(UsageError, match="no effect on the preview"):
        preview(wide, set={"data.fix_share": 0.2})


def test_updates_that_fix_are_timed_for_themselves(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start(tmp_path / "run", wide, {"data.fix_share": 0.75, "total_steps": 40})
    begin = fix_start(training.config)
    taken = {False: (0.0, 4.0), True: (0.0, 1.0)}
    monkeypatch.setattr(estimate, "timed_update", lambda _, step: taken[step >= begin])
    assert estimate._rates(training).update == pytest.approx(0.25 * 4 + 0.75 * 1)


def test_patience_contradicts_it() -> None:
    with pytest.raises(UsageError, match="patience could end the training before"):
        override(TrainConfig(), {"data.fix_share": 0.1, "patience": 3})
