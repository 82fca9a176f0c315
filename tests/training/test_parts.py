"""What is frozen stays to the bit and costs no backward pass; rates go down with depth; both are resumed exactly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resight.errors import Interrupted, UsageError
from resight.models import ResNet, create
from resight.recipes import TrainConfig, check_effects, override
from resight.recipes.sections import ModelConfig, OptimizerConfig
from resight.training.optim import build_optimizer, parameter_groups
from resight.training.parts import depth, freeze, set_training

from .tiny import again, digest, start


@pytest.fixture
def net() -> ResNet:
    torch.manual_seed(0)
    return create("resnet20", num_classes=3, stem="tiny")


def state(net: ResNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("part", "last"), [("none", -1), ("stem", 0), ("stage1", 1), ("stage2", 2), ("stage3", 3), ("backbone", 3)]
)
def test_what_is_frozen_stays_to_the_bit(part: str, last: int, patterns: Path, tmp_path: Path) -> None:
    training = start(
        tmp_path / "run", patterns, {"model.freeze": part, "optimizer.average_epochs": 0, "total_steps": 2}
    )
    before = state(training.net)
    training.fit()
    for name, value in training.net.state_dict().items():
        assert torch.equal(value, before[name]) == (depth(training.net, name) <= last), name
    learning = {name for name, p in training.net.named_parameters() if depth(training.net, name) > last}
    names = {id(p): name for name, p in training.net.named_parameters()}
    assert {names[id(p)] for p in training.optimizer.state} == learning


def test_what_is_frozen_has_no_backward_pass(net: ResNet) -> None:
    freeze(net, "stage2")
    net.train()
    out = net.features(torch.zeros(2, 3, 28, 28))
    needed = [out[name].requires_grad for name in ("stem", "stage1", "stage2", "stage3", "logits")]
    assert needed == [False, False, False, True, True]


def test_frozen_norms_keep_their_statistics_and_learn_their_scales(patterns: Path, tmp_path: Path) -> None:
    settings = {"model.norms": "frozen", "optimizer.average_epochs": 0, "total_steps": 2, "optimizer.lr": 1e-5}
    training = start(tmp_path / "run", patterns, settings)
    before = state(training.net)
    training.fit()
    after = training.net.state_dict()
    for name, value in after.items():
        is_statistic = "running_" in name or "num_batches" in name
        assert torch.equal(value, before[name]) == is_statistic, name


def test_training_mode_follows_the_configuration(net: ResNet) -> None:
    set_training(net, ModelConfig(freeze="stage1"))
    assert (net.bn1.training, net.layer1.training, net.layer2[0].bn1.training, net.fc.training) == (0, 0, 1, 1)
    set_training(net, ModelConfig(norms="frozen"))
    assert (net.bn1.training, net.layer2[0].bn1.training, net.layer2[0].training) == (0, 0, 1)
    set_training(net, ModelConfig())
    assert all(module.training for module in net.modules())


def test_a_stage_that_is_not_there_is_refused_with_those_that_are(net: ResNet) -> None:
    with pytest.raises(UsageError, match=r"no stage4(.|\n)*stage3 or backbone"):
        freeze(net, "stage4")


def test_depth_counts_from_the_stem_to_the_last_layer() -> None:
    net = create("preact_resnet18", num_classes=3)
    names = {name: depth(net, name) for name, _ in net.named_parameters()}
    assert {n: d for n, d in names.items() if "layer" not in n} == {
        "conv1.weight": 0,
        "norm.0.weight": 4,
        "norm.0.bias": 4,
        "fc.weight": 5,
        "fc.bias": 5,
    }
    assert {d for n, d in names.items() if n.startswith("layer3.")} == {3}


@pytest.mark.parametrize("name", ["sgd", "muon", "adamw"])
def test_each_stage_has_a_share_of_the_next_ones_rate(name: str, net: ResNet) -> None:
    optimizer = build_optimizer(net, OptimizerConfig(name=name, layer_decay=0.5, muon_scale=0.1))
    names = {id(p): n for n, p in net.named_parameters()}
    found = {names[id(p)]: group["scale"] for group in optimizer.param_groups for p in group["params"]}
    assert found.keys() == dict(net.named_parameters()).keys()
    for parameter, scale in found.items():
        inner = name == "muon" and net.get_parameter(parameter).ndim == 4 and parameter != "conv1.weight"
        assert scale == pytest.approx(0.5 ** (4 - depth(net, parameter)) * (0.1 if inner else 1))


def test_without_layer_decay_all_rates_are_alike_and_norms_do_not_decay(net: ResNet) -> None:
    groups = parameter_groups(net, OptimizerConfig(weight_decay=0.1))
    assert [(group["scale"], group["weight_decay"]) for group in groups] == [(1.0, 0.1), (1.0, 0.0)]


def test_a_plain_step_is_the_rate_times_the_share_times_the_gradient(patterns: Path, tmp_path: Path) -> None:
    """One update of SGD without momentum, beside the gradient that autograd gives."""
    settings: dict[str, Any] = {
        "optimizer.layer_decay": 0.3,
        "optimizer.momentum": 0,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 0,
        "schedule.name": "constant",
        "schedule.warmup": 0,
    }
    training = start(tmp_path / "run", patterns, settings)
    before, batch = state(training.net), training.loader.make(0)
    set_training(training.net, training.config.model)
    training.objective(batch)[0].backward()
    gradients = {name: p.grad.clone() for name, p in training.net.named_parameters() if p.grad is not None}
    training.optimizer.zero_grad()
    training.update(batch)
    for name, parameter in training.net.named_parameters():
        rate = 0.05 * 0.3 ** (4 - depth(training.net, name))
        torch.testing.assert_close(parameter.detach(), before[name] - rate * gradients[name], rtol=1e-5, atol=1e-7)


FROZEN = {"model.freeze": "stage1", "model.norms": "frozen", "optimizer.layer_decay": 0.7, "optimizer.lr": 1e-5}


def test_resuming_with_frozen_parts_gives_the_same_bits(patterns: Path, tmp_path: Path) -> None:
    start(tmp_path / "straight", patterns, FROZEN).fit()
    training = start(tmp_path / "run", patterns, FROZEN)
    training.report.on_step = lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None  # type: ignore[attr-defined]
    with pytest.raises(Interrupted):
        training.fit()
    again(tmp_path / "run", patterns, FROZEN).fit()
    assert digest(tmp_path / "run") == digest(tmp_path / "straight")


@pytest.mark.parametrize("name", ["model.norms", "optimizer.layer_decay"])
def test_where_only_the_last_layer_learns_these_are_refused(name: str) -> None:
    value = "frozen" if name == "model.norms" else 0.5
    for model, last in (("resnet20", "backbone"), ("resnet20", "stage3"), ("resnet18", "stage4")):
        changes = {"model.name": model, "model.freeze": last, name: value}
        with pytest.raises(UsageError, match=f"{name} has no effect while model.freeze is {last}"):
            check_effects(override(TrainConfig(), changes), changes)
    changes = {"model.name": "resnet18", "model.freeze": "stage3", name: value}
    check_effects(override(TrainConfig(), changes), changes)
