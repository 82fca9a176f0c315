"""The same training on a GPU. Skipped where there is none: CI has none, so run this file by hand on one that has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resight.errors import NonFiniteLoss
from resight.training import room
from resight.training.batches import ahead
from resight.training.estimate import steps_for
from resight.training.machine import is_out_of_memory, resolve_device, resolve_precision
from resight.training.optim import orthogonalised
from resight.training.validate import validate

from .tiny import again, digest, last, load, start, tiny_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

PRECISIONS = ("fp32", "bf16", "fp16")


def on_gpu(**changes: Any) -> dict[str, Any]:
    return {"device": "cuda", "precision": "fp32"} | {name.replace("__", "."): v for name, v in changes.items()}


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuDNN needs to give the same bits twice, and no TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def test_the_gpu_is_found_and_its_precision_chosen() -> None:
    assert resolve_device("auto") == "cuda"
    assert resolve_precision("auto", "cuda") == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "muon"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_learns_in_each_precision_with_each_optimizer(
    precision: str, optimizer: str, patterns: Path, tmp_path: Path
) -> None:
    lr = {"adamw": 0.003, "lamb": 0.02}.get(optimizer, 0.05)
    changes = on_gpu(precision=precision, optimizer__name=optimizer, optimizer__lr=lr, total_steps=48)
    training = start(tmp_path / "run", patterns, changes)
    training.fit()
    history = training.state.history
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert {p.device.type for p in training.net.parameters()} == {"cuda"}
    assert {p.dtype for p in training.net.parameters()} == {torch.float32}
    assert all(tensor.device.type == "cpu" for tensor in last(tmp_path / "run").weights.values())


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_resumed_training_ends_with_the_same_bits(
    optimizer: str, precision: str, patterns: Path, tmp_path: Path
) -> None:
    changes = on_gpu(precision=precision, optimizer__name=optimizer, data__start_scale=0.5)
    start(tmp_path / "straight", patterns, changes).fit()
    stopped = start(tmp_path / "run", patterns, changes)

    class Gone(BaseException):
        pass

    def leave(done: int) -> None:
        if done == 8:
            raise Gone

    stopped.report.on_step = leave
    with pytest.raises(Gone):
        stopped.fit()
    again(tmp_path / "run", patterns, changes).fit()
    assert digest(tmp_path / "run") == digest(tmp_path / "straight")


@pytest.mark.usefixtures("exact")
def test_one_update_is_the_cpu_s(patterns: Path, tmp_path: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        training = start(tmp_path / device, patterns, on_gpu(device=device, optimizer__average_epochs=0.0))
        training.objective.double()
        training.update(next(ahead([training.loader.make(0)], training.device)))
        found[device] = {name: value.cpu() for name, value in training.net.state_dict().items()}
    for name, value in found["cpu"].items():
        torch.testing.assert_close(found["cuda"][name], value, rtol=1e-4, atol=1e-6)


def test_batches_arrive_as_the_loader_made_them_while_the_gpu_is_busy(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "run", patterns, on_gpu())
    busy = torch.rand(4096, 4096, device="cuda")
    made = [training.loader.make(step) for step in range(12)]
    for batch, moved in zip(made, ahead(iter(made), training.device), strict=True):
        for _ in range(4):  # what the copies run beside
            busy = torch.mm(busy, busy).clamp_(0, 1)
        assert moved.pixels.device.type == "cuda"
        assert torch.equal(moved.pixels.cpu(), batch.pixels)
        assert torch.equal(moved.labels.cpu(), batch.labels)


def test_micro_batches_follow_the_gpu_s_memory(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, sizes = load(patterns), np.array([[28, 28]])
    for free, batch, least in ((2**40, 8, 8), (30 * 2**20, 64, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 0))
        config = tiny_config(patterns, {**on_gpu(), "batch": batch, "auto_batch": True})
        room.decide(config, samples, sizes, {}, lambda _: None)
        assert least <= (config.micro_batch or batch) <= batch
        assert (config.micro_batch in (0, batch)) == (free == 2**40)


def test_running_out_of_memory_is_recognised() -> None:
    with pytest.raises(torch.OutOfMemoryError) as failed:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(failed.value)


def test_a_budget_is_measured_on_the_gpu(patterns: Path, tmp_path: Path) -> None:
    assert steps_for(start(tmp_path / "run", patterns, on_gpu(precision="bf16")), 20.0) > 12


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "muon"])
def test_fp16_skips_steps_that_overflow_and_goes_on(optimizer: str, patterns: Path, tmp_path: Path) -> None:
    lr = {"adamw": 0.003, "lamb": 0.02}.get(optimizer, 0.05)
    changes = on_gpu(precision="fp16", optimizer__name=optimizer, optimizer__lr=lr, total_steps=36)
    training = start(tmp_path / "run", patterns, changes)
    before = {name: value.clone() for name, value in training.net.named_parameters()}
    training.scaler._init_scale = 2.0**24  # so that the first gradients overflow, and later ones do not
    training.fit()
    assert training.scaler.get_scale() < 2.0**24
    assert training.state.step == training.config.total_steps
    for name, value in training.net.named_parameters():
        assert torch.isfinite(value).all()
        assert not torch.equal(value, before[name])


def test_a_loss_that_is_not_finite_stops_it(patterns: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss):
        start(tmp_path / "run", patterns, on_gpu(optimizer__lr=1e30)).fit()


def test_the_weights_answer_on_the_cpu_as_on_the_gpu(patterns: Path, tmp_path: Path) -> None:
    training = start(tmp_path / "gpu", patterns, on_gpu(total_steps=24))
    training.fit()
    there = validate(training.objective, training.val, training.config, training.accelerator, 16)
    here = again(tmp_path / "gpu", patterns, {"total_steps": 24})
    result = validate(here.objective, here.val, here.config, here.accelerator, 16)
    assert result.accuracy == there.accuracy
    assert result.loss == pytest.approx(there.loss, rel=1e-2)


@pytest.mark.parametrize("shape", [(16, 144), (64, 576), (64, 27)])
def test_orthogonalised_gives_what_it_gives_on_the_cpu(shape: tuple[int, int]) -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
    torch.testing.assert_close(
        orthogonalised(matrix[None].cuda()).cpu(), orthogonalised(matrix[None]), rtol=1e-3, atol=1e-3
    )
