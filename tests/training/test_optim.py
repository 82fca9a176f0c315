"""Optimizers against literal ones, schedules and averages against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from resight.models import create
from resight.recipes.sections import OptimizerConfig, ScheduleConfig
from resight.training.optim import Average, Lamb, build_optimizer, orthogonalised, parameter_groups, rate_factor

Array = NDArray[np.float64]


def run_optimizer(optimizer: torch.optim.Optimizer, p: nn.Parameter, gradients: list[Array]) -> Array:
    for gradient in gradients:
        p.grad = torch.from_numpy(gradient).to(p.dtype)
        optimizer.step()
    return p.detach().double().numpy()


def slow_lamb(x: Array, gradients: list[Array], lr: float, b1: float, b2: float, eps: float, decay: float) -> Array:
    """You et al. 2020, algorithm 2, line by line, with φ the identity."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        r = m_hat / (np.sqrt(v_hat) + eps)
        update = r + decay * x
        ratio = np.linalg.norm(x) / np.linalg.norm(update) if decay else 1.0
        x = x - lr * ratio * update
    return x


def slow_adamw(x: Array, gradients: list[Array], lr: float, b1: float, b2: float, decay: float) -> Array:
    """Loshchilov and Hutter 2019, algorithm 2."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        x = x - lr * decay * x - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
    return x


def slow_sgd(x: Array, gradients: list[Array], lr: float, momentum: float, nesterov: bool, decay: float) -> Array:
    v = np.zeros_like(x)
    for g in gradients:
        g = g + decay * x
        v = momentum * v + g
        x = x - lr * (g + momentum * v if nesterov else v)
    return x


def problem() -> tuple[Array, list[Array]]:
    random = np.random.default_rng(0)
    return random.normal(size=(4, 3)), [random.normal(size=(4, 3)) for _ in range(7)]


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_lamb_against_a_literal_one(decay: float) -> None:
    x, gradients = problem()
    p = nn.Parameter(torch.from_numpy(x.copy()))
    ours = run_optimizer(Lamb([p], 0.02, (0.9, 0.99), weight_decay=decay), p, gradients)
    np.testing.assert_allclose(ours, slow_lamb(x, gradients, 0.02, 0.9, 0.99, 1e-6, decay), rtol=1e-10)


def test_lamb_survives_zero_weights_and_zero_gradients() -> None:
    p = nn.Parameter(torch.zeros(3, 3))
    optimizer = Lamb([p], 0.1, (0.9, 0.99), weight_decay=0.1)
    run_optimizer(optimizer, p, [np.zeros((3, 3))])
    assert torch.equal(p, torch.zeros(3, 3))
    run_optimizer(optimizer, p, [np.ones((3, 3))])
    assert bool(torch.isfinite(p).all())
    assert bool((p < 0).all())


SLOW: dict[str, Callable[[Array, list[Array]], Array]] = {
    "sgd": lambda x, g: slow_sgd(x, g, 0.02, 0.8, True, 0.1),
    "adamw": lambda x, g: slow_adamw(x, g, 0.02, 0.8, 0.95, 0.1),
    "lamb": lambda x, g: slow_lamb(x, g, 0.02, 0.8, 0.95, 1e-6, 0.1),
}


@pytest.mark.parametrize("name", SLOW)
def test_what_is_built_is_what_the_configuration_says(name: str) -> None:
    x, gradients = problem()
    layer = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(x))
    config = OptimizerConfig(name=name, lr=0.02, momentum=0.8, beta2=0.95, weight_decay=0.1)  # type: ignore[arg-type]
    ours = run_optimizer(build_optimizer(layer, config), layer.weight, gradients)
    np.testing.assert_allclose(ours, SLOW[name](x, gradients), rtol=1e-10)


def test_plain_momentum() -> None:
    x, gradients = problem()
    layer = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(x))
    config = OptimizerConfig(lr=0.02, momentum=0.8, nesterov=False, weight_decay=0.1)
    ours = run_optimizer(build_optimizer(layer, config), layer.weight, gradients)
    np.testing.assert_allclose(ours, slow_sgd(x, gradients, 0.02, 0.8, False, 0.1), rtol=1e-10)


def test_norms_and_biases_do_not_decay_unless_asked() -> None:
    net = create("resnet20", num_classes=3)
    names = {parameter: name for name, parameter in net.named_parameters()}
    decayed, others = parameter_groups(net, OptimizerConfig(weight_decay=0.1))
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {names[p] for p in others["params"]} == {
        name for name in names.values() if "bn" in name or "downsample.1" in name or name.endswith("bias")
    }
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    (everything,) = parameter_groups(net, OptimizerConfig(weight_decay=0.1, decay_norms=True))
    assert {names[p] for p in everything["params"]} == set(names.values())


# ── schedules ──────────────────────────────────────────────────────────────────────────────────────────────────


# ── Muon ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(8, 72), (64, 16), (5, 5)])
def test_orthogonalised_keeps_directions_and_evens_out_their_strength(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    matrix = random.normal(size=shape)
    found = orthogonalised(torch.from_numpy(matrix[None]).float())[0].double().numpy()
    found /= max(1, shape[0] / shape[1]) ** 0.5
    strengths = np.linalg.svd(found, compute_uv=False)
    assert strengths.min() > 0.3
    assert strengths.max() < 1.3
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ found @ vt.T  # diagonal: the singular vectors are the old ones
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=2e-4)
    assert (np.diag(rotated) > 0).all()


def test_muon_orthogonalises_inner_convolutions_and_nothing_else() -> None:
    net = create("resnet20", num_classes=3)
    optimizer = build_optimizer(net, OptimizerConfig(name="muon", lr=0.4, muon_scale=0.25, weight_decay=1e-3))
    orthogonal, decayed, others = optimizer.param_groups
    assert len(orthogonal["params"]) == 18  # the first convolution takes plain steps
    assert orthogonal["scale"] == 0.25
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert (decayed["weight_decay"], others["weight_decay"]) == (1e-3, 0)
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in everything} == {id(p) for p in net.parameters()}
    assert len(everything) == len(list(net.parameters()))


def test_sgd_is_not_fused_beside_a_gradient_scaler() -> None:
    net = create("resnet20", num_classes=3)
    assert build_optimizer(net, OptimizerConfig(name="sgd")).defaults["fused"]
    assert not build_optimizer(net, OptimizerConfig(name="sgd"), scaled=True).defaults["fused"]
    assert build_optimizer(net, OptimizerConfig(name="adamw"), scaled=True).defaults["fused"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_against_its_definition(nesterov: bool) -> None:
    random = np.random.default_rng(5)
    start, gradients = random.normal(size=(4, 2, 3, 3)), [random.normal(size=(4, 2, 3, 3)) for _ in range(3)]
    net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Conv2d(2, 4, 3, bias=False))
    config = OptimizerConfig(name="muon", lr=0.2, muon_scale=0.25, momentum=0.6, nesterov=nesterov, weight_decay=0.01)
    optimizer = build_optimizer(net, config)
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group.get("scale", 1.0)
    weight = net[1].weight
    with torch.no_grad():
        weight.copy_(torch.from_numpy(start))
    found = run_optimizer(optimizer, weight, gradients)
    velocity = np.zeros_like(start)
    for gradient in gradients:
        velocity = 0.6 * velocity + gradient
        step = gradient + 0.6 * velocity if nesterov else velocity
        even = orthogonalised(torch.from_numpy(step.reshape(1, 4, 18)).float()).double().numpy().reshape(start.shape)
        start = start * (1 - 0.05 * 0.01) - 0.05 * even
    np.testing.assert_allclose(found, start, atol=1e-5)


def factors(config: ScheduleConfig, total: int) -> list[float]:
    return [rate_factor(config, step, total) for step in range(total)]


def test_cosine() -> None:
    values = factors(ScheduleConfig(name="cosine"), 100)
    np.testing.assert_allclose(values, [math.cos(math.pi * s / 200) ** 2 for s in range(100)])
    assert values[0] == 1
    assert 0 < values[-1] < 0.001


def test_onecycle() -> None:
    values = factors(ScheduleConfig(name="onecycle", warmup=0.25), 100)
    np.testing.assert_allclose(values[:25], np.arange(1, 26) / 25)
    np.testing.assert_allclose(values[25:], 1 - np.arange(75) / 75)
    assert values[-1] == pytest.approx(1 / 75)


def test_step() -> None:
    config = ScheduleConfig(name="step", milestones=[0.5, 0.75], gamma=0.1)
    values = factors(config, 64_000)
    assert values[:32_000] == [1.0] * 32_000
    np.testing.assert_allclose(values[32_000:48_000], 0.1)
    np.testing.assert_allclose(values[48_000:], 0.01)


def test_constant() -> None:
    assert factors(ScheduleConfig(name="constant"), 5) == [1.0] * 5


def test_a_warmup_may_stay_at_one_rate() -> None:
    values = factors(ScheduleConfig(name="step", warmup=0.1, warmup_rate=0.2, milestones=[0.5]), 100)
    assert values == pytest.approx([0.2] * 10 + [1.0] * 40 + [0.1] * 50)


@pytest.mark.parametrize("name", ["cosine", "onecycle", "step", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
def test_rates_are_always_positive_and_rise_before_they_fall(name: str, total: int, warmup: float) -> None:
    config = ScheduleConfig(name=name, warmup=warmup, milestones=[0.6] if name == "step" else [])  # type: ignore[arg-type]
    values = factors(config, total)
    assert all(0 < value <= 1 for value in values)
    rising = round(warmup * total)
    assert values[:rising] == [(s + 1) / rising for s in range(rising)]
    assert all(a >= b for a, b in zip(values[rising:], values[rising + 1 :], strict=False))


# ── averages ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_average_follows_its_closed_form() -> None:
    net = nn.Linear(2, 2, dtype=torch.float64)
    average = Average(net, horizon=5)
    expected = net.weight.detach().clone().numpy()
    random = np.random.default_rng(0)
    for step in range(1, 40):
        value = random.normal(size=(2, 2))
        with torch.no_grad():
            net.weight.copy_(torch.from_numpy(value))
        average.update(net, step)
        decay = min(1 - 1 / 5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        np.testing.assert_allclose(average.state["weight"].numpy(), expected, rtol=1e-12)


def test_average_includes_norm_statistics_and_copies_counters() -> None:
    net = nn.BatchNorm1d(3)
    average = Average(net, horizon=1000)
    net(torch.randn(8, 3) + 7)
    average.update(net, 1)
    decay = 2 / 11
    torch.testing.assert_close(average.state["running_mean"], (1 - decay) * net.running_mean)
    assert average.state["num_batches_tracked"] == 1
    assert average.state["running_mean"] is not net.running_mean


def test_a_horizon_below_one_step_is_no_average() -> None:
    net = nn.Linear(2, 2)
    average = Average(net, horizon=0.3)
    with torch.no_grad():
        net.weight.fill_(3.0)
    average.update(net, 1)
    assert torch.equal(average.state["weight"], net.weight)
