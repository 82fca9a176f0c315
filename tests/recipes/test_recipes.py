"""Every recipe is complete, is what its source says, and trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.tiny import Recorder, build, load, tiny_run, write_patterns

from resight.errors import UsageError
from resight.models import spec_of
from resight.recipes import RECIPES, Facts, TrainConfig, override, recipe
from resight.training import prepare
from resight.training.optim import rate_factor

CIFAR = Facts(count=50_000, classes=10, side=32)
FACTS = {
    "cifar": CIFAR,
    "photos": Facts(count=1_281_167, classes=1000, side=375),
    "few photos": Facts(count=120, classes=4, side=500),
    "few small": Facts(count=30, classes=3, side=8),
    "one": Facts(count=1, classes=1, side=28),
}


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("patterns") / "data")


@pytest.mark.parametrize("kind", FACTS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_for_any_data(name: str, kind: str) -> None:
    config = recipe(name, FACTS[kind])
    assert config.recipe == name
    assert config.data.image_size >= 28
    spec_of(config.model.name, **config.model.options)
    assert config.batch >= 1
    assert TrainConfig.from_json(config.to_json(), name) == config


@pytest.mark.parametrize("name", RECIPES)
def test_every_docstring_says_where_it_is_from_and_how_to_run_it(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert "Command:" in text
    assert f"--recipe {name}" in text or name in ("quick", "transfer")
    assert "Expected" in text
    assert "Source:" in text or "et al." in text


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "features"])  # which has no updates
def test_every_recipe_trains_in_miniature(name: str, patterns: Path, tmp_path: Path) -> None:
    """The recipe as it is, but for a small network, small pictures and two steps."""
    samples = load(patterns)
    small = {
        "model.name": "resnet20",
        "data.image_size": 28,
        "data.train_size": 28,
        "batch": 16,
        "data.workers": 0,
        "threads": 1,
        "device": "cpu",
    }
    config, _ = prepare.configure(samples, np.full((60, 2), 28), small, name)
    config.data.mean, config.data.std, config.total_steps = [0.3] * 3, [0.3] * 3, 2
    training = build(tiny_run(tmp_path / "run", config, samples), config, samples, Recorder())
    before = training.net.fc.weight.detach().clone()
    state = training.fit()
    assert state.step == 2
    assert len(state.history) == 1
    assert not torch.equal(training.net.fc.weight, before)


def test_he2015_cifar_is_64k_steps_with_milestones_at_32k_and_48k() -> None:
    for count in (50_000, 45_000):
        config = recipe("he2015-cifar", Facts(count, 10, 32))
        prepare.resolve_steps(config, count)
        assert config.total_steps == 64_000
    assert (config.batch, config.optimizer.lr, config.optimizer.weight_decay) == (128, 0.1, 1e-4)
    assert (config.optimizer.momentum, config.optimizer.nesterov, config.optimizer.decay_norms) == (0.9, False, True)
    steps = (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    rates = [0.1 * rate_factor(config.schedule, step, 64_000) for step in steps]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (config.augment.crop, config.augment.shift, config.augment.shift_padding) == ("shift", 4, "zero")
    assert config.augment.flip == "random"


def test_deep_cifar_nets_begin_with_400_updates_at_a_tenth_of_the_rate() -> None:
    """He et al. 2015, §4.2; He et al. 2016, appendix."""
    for name, first in (("resnet56", 0.1), ("resnet110", 0.01), ("preact_resnet164", 0.01), ("resnet1202_plain", 0.01)):
        schedule = recipe("he2015-cifar", Facts(50_000, 10, 32, model=name)).schedule
        rates = [0.1 * rate_factor(schedule, step, 64_000) for step in (0, 399, 400, 32_000)]
        assert rates == pytest.approx([first, first, 0.1, 0.01])
    assert recipe("he2015-cifar", Facts(50_000, 10, 32, model="no such name")).schedule.warmup == 0


def test_blocks_of_the_deepest_cifar_net_start_as_their_shortcuts() -> None:
    """Where each branch adds as much as the one before: not before activation, and not without shortcuts."""
    for name in ("resnet110", "preact_resnet1001", "resnet1202_plain", "resnet1202"):
        model = recipe("he2015-cifar", Facts(50_000, 10, 32, model=name)).model
        assert model.zero_gamma is (name == "resnet1202")


def test_he2015_imagenet_divides_at_30_and_60_of_90_epochs() -> None:
    config = recipe("he2015-imagenet", FACTS["photos"])
    per_epoch = FACTS["photos"].count // 256
    prepare.resolve_steps(config, FACTS["photos"].count)
    assert config.total_steps == 90 * per_epoch
    for epoch, rate in ((0, 0.1), (29, 0.1), (31, 0.01), (59, 0.01), (61, 0.001), (89, 0.001)):
        factor = rate_factor(config.schedule, epoch * per_epoch, config.total_steps)
        assert config.optimizer.lr * factor == pytest.approx(rate)


def test_strikes_back_a3_is_the_papers_table() -> None:
    config = recipe("strikes-back-a3", FACTS["photos"])
    assert (config.data.train_size, config.data.image_size, config.data.crop_ratio) == (160, 224, 0.95)
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.weight_decay) == ("lamb", 8e-3, 0.02)
    assert (config.loss, config.batch, config.epochs) == ("bce", 2048, 100)
    assert (config.augment.mixup, config.augment.cutmix) == (0.1, 1.0)
    assert config.schedule.name == "cosine"
    assert config.schedule.warmup * config.epochs == 5


def test_few_pictures_still_make_hundreds_of_updates() -> None:
    for count in (500, 2000, 10_000):
        config = recipe("quick", Facts(count, 5, 32))
        prepare.resolve_steps(config, count)
        assert config.total_steps >= 500
    assert recipe("quick", CIFAR).epochs == 15
    assert recipe("quick", CIFAR).batch == 128


def test_quick_for_photos_and_for_small_pictures() -> None:
    photos = recipe("quick", Facts(count=900, classes=10, side=400))
    assert (photos.batch, photos.optimizer.name, photos.optimizer.lr) == (32, "sgd", 0.2)  # the rate stays
    assert (photos.data.start_scale, photos.epochs, photos.model.zero_gamma) == (0.5, 45, False)
    assert photos.label_smoothing == 0.1
    small = recipe("quick", Facts(count=900, classes=10, side=28))
    assert (small.batch, small.optimizer.name, small.optimizer.lr) == (32, "muon", 0.05)
    assert (small.data.start_scale, small.model.zero_gamma) == (0.5, False)
    assert small.label_smoothing == 0
    assert recipe("finetune", Facts(count=900, classes=10, side=28)).label_smoothing == 0.1
    tuned = recipe("finetune", Facts(count=900, classes=10, side=400))
    assert (tuned.data.start_scale, tuned.optimizer.name, tuned.batch, tuned.epochs) == (1.0, "sgd", 32, 21)
    few = recipe("finetune", Facts(count=100, classes=10, side=400))
    assert (few.batch, few.optimizer.lr, few.epochs) == (8, 0.0025, 48)  # some 600 updates


def test_unknown_recipes_name_the_known_ones() -> None:
    with pytest.raises(UsageError, match="he2015-cifar"):
        recipe("he2016", CIFAR)


def test_recipes_do_not_share_state() -> None:
    first = recipe("quick", CIFAR)
    first.data.mean.append(1.0)
    first.augment.flip = "none"
    assert recipe("quick", CIFAR).data.mean == []
    assert recipe("quick", CIFAR).augment.flip != "none"
    assert TrainConfig().data.mean == []


# ── overrides ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optimizer.lr", "1e-3", 1e-3),
        ("epochs", "3", 3.0),
        ("batch", "64", 64),
        ("augment.flip", "none", "none"),
        ("augment.crop", "shift", "shift"),
        ("data.mean", "[]", []),
        ("model.weights", "resnet18.tv_in1k", "resnet18.tv_in1k"),
        ("model.name", "resnet34", "resnet34"),
        ("model.options.stem", "cifar", "cifar"),
        ("model.options.stochastic_depth", "0.2", 0.2),
    ],
)
def test_settings_are_parsed(name: str, text: str, value: object) -> None:
    found: object = override(TrainConfig(), {name: text})
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("speed", "optimizer"),
        ("optimizer.speed", "weight_decay"),
        ("optimizer.lr.more", "optimizer"),
        ("augment.", "cutmix"),
        (".epochs", "optimizer"),
        ("", "optimizer"),
        ("Optimizer.lr", "optimizer"),
    ],
)
def test_unknown_settings_list_the_known_ones(name: str, listed: str) -> None:
    with pytest.raises(UsageError, match="there is no option") as refused:
        override(TrainConfig(), {name: "1"})
    assert listed in str(refused.value)
    assert f"'{name}'" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"optimizer.lr": "fast"}, "optimizer.lr"),
        ({"optimizer.lr": "NaN"}, "optimizer.lr"),
        ({"optimizer.lr": "Infinity"}, "optimizer.lr"),
        ({"batch": "2.5"}, "batch"),
        ({"batch": 0}, "batch"),
        ({"keep": 0}, "keep"),
        ({"augment.crop": "some"}, "augment.crop"),
        ({"augment": "none"}, "augment"),
        ({"seed": -1}, "seed"),
        ({"augment.scale_min": 0.9, "augment.scale_max": 0.8}, "larger than"),
        ({"loss": "bce", "label_smoothing": 0.1}, "label_smoothing"),
        ({"schedule.milestones": [0.5]}, "schedule.name=step"),
        ({"schedule.name": "step", "schedule.milestones": [30, 60]}, "fractions"),
        ({"data.mean": [0.5]}, "one value per channel"),
        ({"data.mean": [0.5], "data.std": [0.0]}, "std above 0"),
        ({"optimizer.momentum": 0}, "nesterov"),
    ],
)
def test_values_that_do_not_fit_are_refused(changes: dict[str, object], pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern):
        override(TrainConfig(), changes)


def test_files_of_older_versions_keep_their_meaning() -> None:
    plain = TrainConfig().model_dump()
    assert TrainConfig.from_json(TrainConfig().to_json(), "config.json").data.geometry_version == 2
    del plain["data"]["geometry_version"]
    for written, meant in ((True, "random"), (False, "none"), ("alternate", "alternate")):
        plain["augment"]["flip"] = written
        found = TrainConfig.from_json(json.dumps(plain).encode(), "config.json")
        assert (found.data.geometry_version, found.augment.flip) == (1, meant)
    plain["optimizer"] |= {"lr": 0.2, "muon_lr": 0.05}
    del plain["optimizer"]["muon_scale"]
    assert TrainConfig.from_json(json.dumps(plain).encode(), "config.json").optimizer.muon_scale == 0.25
    assert TrainConfig.from_json(TrainConfig().to_json(), "config.json").augment.crop_from == "square"
    del plain["augment"]["crop_from"]
    assert TrainConfig.from_json(json.dumps(plain).encode(), "config.json").augment.crop_from == "picture"
    with pytest.raises(UsageError, match="flip"):  # only files have an older version
        override(TrainConfig(), {"augment.flip": True})


def test_a_config_file_that_is_none_is_refused_by_name() -> None:
    for data in (b"", b"{", b"[]", b'{"speed": 1}', b'{"batch": "x"}'):
        with pytest.raises(UsageError, match=r"run/config\.json"):
            TrainConfig.from_json(data, "run/config.json")
