"""The loss against closed forms; the update against one written by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.errors import NonFiniteLoss, UsageError
from resight.training.batches import split
from resight.training.fit import Training
from resight.training.objective import Normalize, Supervised

from .tiny import Recorder, build, last, load, start, tiny_config, tiny_run


class Fixed(nn.Module):
    """A network that answers with given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.num_classes = logits.shape[1]

    def forward(self, _: Tensor) -> Tensor:
        return self.logits


def loss_of(patterns: Path, tmp_path: Path, logits: Tensor, **changes: Any) -> tuple[float, dict[str, float], Any]:
    training = start(tmp_path / "run", patterns, changes)
    batch = training.loader.make(0)
    objective = Supervised(Fixed(logits), training.config)  # type: ignore[arg-type]
    loss, logs = objective(batch)
    return loss.item(), {name: value.item() for name, value in logs.items()}, batch


def test_equal_logits_cost_the_logarithm_of_the_classes(patterns: Path, tmp_path: Path) -> None:
    for smoothing in (0.0, 0.3):
        loss, logs, _ = loss_of(patterns, tmp_path / str(smoothing), torch.zeros(8, 3), label_smoothing=smoothing)
        assert loss == pytest.approx(math.log(3), rel=1e-6)
        assert logs["loss"] == pytest.approx(8 * math.log(3), rel=1e-6)
        assert logs["seen"] == 8


def test_label_smoothing(patterns: Path, tmp_path: Path) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    loss, logs, batch = loss_of(patterns, tmp_path, logits, label_smoothing=0.3)
    log_p = logits.double().log_softmax(1)
    own = log_p[torch.arange(8), batch.labels]
    assert loss == pytest.approx(-(0.7 * own + 0.3 * log_p.mean(1)).mean().item(), rel=1e-6)
    assert logs["correct"] == (logits.argmax(1) == batch.labels).sum()


def test_binary_cross_entropy(patterns: Path, tmp_path: Path) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    loss, _, batch = loss_of(patterns, tmp_path, logits, loss="bce")
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    y = np.eye(3)[batch.labels.numpy()]
    assert loss == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), rel=1e-6)


def test_normalisation() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    normal = Normalize([0.5, 0.2, 0.25], [0.1, 0.2, 0.25])(pixels)
    torch.testing.assert_close(normal.flatten(), torch.tensor([-5.0, 0.0, 3.0]))
    assert list(Normalize([0.5], [1.0]).state_dict()) == []  # it belongs to the Run's card, not to the weights


# ── one update ─────────────────────────────────────────────────────────────────────────────────────────────────


def freeze_norms(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms with their running statistics, so that pictures of a batch do not influence each other."""
    train = training.net.train

    def with_frozen_norms(mode: bool = True) -> nn.Module:
        train(mode)
        for module in training.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return training.net

    monkeypatch.setattr(training.net, "train", with_frozen_norms)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_accumulation_equals_the_whole_batch_where_pictures_are_independent(
    micro_batch: int, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for size in (8, micro_batch):
        training = start(tmp_path / str(size), patterns, {"micro_batch": size, "optimizer.clip": 0.1})
        freeze_norms(training, monkeypatch)
        for step in range(2):
            training.update(training.loader.make(step))
        results.append((training.net.state_dict(), training.state))
    (whole, whole_state), (parts, parts_state) = results
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)
    assert parts_state.loss_sum == pytest.approx(whole_state.loss_sum, rel=1e-5)
    assert (parts_state.seen, parts_state.correct) == (whole_state.seen, whole_state.correct)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_an_update_is_forward_backward_clip_step(clip: float, patterns: Path, tmp_path: Path) -> None:
    changes = {
        "optimizer.clip": clip,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 0.01,
        "schedule.warmup": 0.5,
        "label_smoothing": 0.1,
    }
    training = start(tmp_path / "run", patterns, changes)
    by_hand = start(tmp_path / "hand", patterns, changes)
    batch = training.loader.make(0)

    net = by_hand.net.train()
    logits = net(by_hand.objective.normalize(by_hand_augmented(by_hand, batch)))
    F.cross_entropy(logits, batch.labels, label_smoothing=0.1).backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in net.parameters()))  # type: ignore[union-attr]
    scale = min(1.0, clip / norm) if clip else 1.0
    assert clip == 0 or scale < 1
    rate = training.config.optimizer.lr * 1 / 6  # the first of six warm-up steps
    expected = {
        name: p.detach() - rate * (scale * p.grad + (0.01 * p.detach() if p.ndim > 1 else 0))  # type: ignore[operator]
        for name, p in net.named_parameters()
    }
    training.update(batch)
    for name, p in training.net.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in training.net.parameters())
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def by_hand_augmented(training: Training, batch: Any) -> Tensor:
    from resight.training.augment import apply

    return apply(training.config.augment, batch.pixels, batch.parameters)


def test_splitting_keeps_every_picture_with_its_parameters(patterns: Path, tmp_path: Path) -> None:
    batch = start(tmp_path / "run", patterns).loader.make(1)
    parts = list(split(batch, 3))
    assert [len(part.labels) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
    assert np.concatenate([part.indices for part in parts]).tolist() == batch.indices.tolist()
    shifts = np.concatenate([part.parameters.shift for part in parts])
    np.testing.assert_array_equal(shifts, batch.parameters.shift)


# ── what is no number ──────────────────────────────────────────────────────────────────────────────────────────


def assert_finite(path: Path) -> None:
    checkpoint = last(path)
    for tensors in (checkpoint.weights, checkpoint.optimizer, checkpoint.average):
        assert all(bool(torch.isfinite(value).all()) for value in tensors.values())


@pytest.mark.parametrize("save_steps", [0, 1])
def test_a_rate_of_1e20_is_an_error_that_says_what_happened(save_steps: int, patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns, {"optimizer.lr": 1e20, "save_steps": save_steps})
    with pytest.raises(NonFiniteLoss) as stopped:
        training.fit()
    text = str(stopped.value)
    assert "step" in text
    assert "learning rate" in text
    assert "--lr" in text
    assert training.report.closed
    assert_finite(tmp_path / "run")


def test_an_infinite_loss_names_step_rate_and_pictures(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns)
    with torch.no_grad():
        training.net.fc.bias.fill_(float("inf"))
    with pytest.raises(NonFiniteLoss) as stopped:
        training.update(training.loader.make(0))
    text = str(stopped.value)
    assert "step 1 of 12" in text
    assert "learning rate 0.025" in text  # 0.05, in the first of two warm-up steps
    assert "batch of 8 pictures" in text
    assert ".png" in text
    assert training.state.step == 0
    assert not training.optimizer.state  # no step was taken


def test_weights_that_are_no_numbers_are_never_saved(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns)
    training.save()
    for tensors in (
        training.net.state_dict(),
        training.average.state if training.average else {},
    ):
        name = "layer1.0.bn1.weight"
        good = tensors[name].clone()
        tensors[name][0] = float("nan")
        training.state.step += 1
        with pytest.raises(NonFiniteLoss, match="not saved"):
            training.save()
        tensors[name].copy_(good)
    assert_finite(tmp_path / "run")


def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resight.training import fit

    config, samples = tiny_config(patterns), load(patterns)
    real = fit.accelerator_for(config)
    monkeypatch.setattr(type(real), "num_processes", property(lambda _: 3))
    with pytest.raises(UsageError, match="8 pictures cannot be shared evenly by 3 processes"):
        build(tiny_run(tmp_path / "run", config, samples), config, samples, Recorder())
