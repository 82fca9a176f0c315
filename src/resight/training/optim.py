"""Optimizers, and schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resight.models import ResNet
from resight.recipes.sections import OptimizerConfig, ScheduleConfig
from resight.training.parts import depth


class Lamb(torch.optim.Optimizer):
    """Adam whose update of each tensor is scaled to its weights' norm (You et al. 2020, algorithm 2).

    Weight decay is inside the scaled update. Tensors without decay take the Adam step as it is.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        b1, b2 = group["betas"]
        state["step"] += 1
        step = state["step"].item()
        state["exp_avg"].lerp_(grad, 1 - b1)
        state["exp_avg_sq"].lerp_(grad.square(), 1 - b2)
        mean = state["exp_avg"] / (1 - b1**step)
        update = mean / ((state["exp_avg_sq"] / (1 - b2**step)).sqrt() + group["eps"])
        if group["weight_decay"]:
            update = update + group["weight_decay"] * p
            norm_p, norm_u = p.norm(), update.norm()
            update *= torch.where((norm_p > 0) & (norm_u > 0), norm_p / norm_u, torch.ones_like(norm_p))
        p.sub_(update, alpha=group["lr"])


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised, for the weights of inner convolutions (Jordan et al. 2024), in float32.

    A weight (out, in, k, k) counts as a matrix (out, in · k · k). Its step has about the scale √max(1, rows/columns)
    per singular value. Groups with ``orthogonal: False`` take plain SGD steps with the same momentum, their gradient
    carrying the decay; orthogonal ones are decayed apart from the gradient, in proportion to the rate.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float, nesterov: bool) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure else None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            steps = self._momentum(params, group)
            if group["orthogonal"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                steps = orthogonalised_steps(steps)
            torch._foreach_add_(params, steps, alpha=-group["lr"])
        return loss

    def _momentum(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The steps of SGD with momentum, before the rate."""
        grads = [p.grad for p in params if p.grad is not None]
        if group["weight_decay"] and not group["orthogonal"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, grads)
        if not group["nesterov"]:
            return buffers
        return list(torch._foreach_add(grads, buffers, alpha=group["momentum"]))


def orthogonalised_steps(steps: Sequence[Tensor]) -> list[Tensor]:
    """Each (out, in, k, k) orthogonalised as a matrix (out, in · k · k); those of one shape together."""
    found = list(steps)
    for shape in dict.fromkeys(step.shape for step in steps):
        places = [place for place, step in enumerate(steps) if step.shape == shape]
        matrices = orthogonalised(torch.stack([steps[place].flatten(1) for place in places]))
        for place, matrix in zip(places, matrices, strict=True):
            found[place] = matrix.view(shape)
    return found


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """(N, R, C) → about UVᵀ of each one's singular value decomposition, times √max(1, R/C).

    A quintic Newton–Schulz iteration; its singular values end between about 0.7 and 1.2 (Jordan et al. 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    rows, columns = matrices.shape[1:]
    x = matrices if rows <= columns else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if rows <= columns else x.mT) * math.sqrt(max(1.0, rows / columns))


def muon_groups(net: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """As ``parameter_groups``, with the weights apart that Muon orthogonalises: of all convolutions but the first."""
    inner = {id(p) for p in [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)][1:]}
    found = []
    for group in parameter_groups(net, config):
        for orthogonal in (True, False):
            params = [p for p in group["params"] if (id(p) in inner) == orthogonal]
            scale = group["scale"] * (config.muon_scale if orthogonal else 1.0)
            if params:
                found.append({**group, "params": params, "scale": scale, "orthogonal": orthogonal})
    return found


def parameter_groups(net: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Of all parameters that learn: weights that decay; norms and biases (vectors), that do not unless ``decay_norms``;
    both for each depth where ``layer_decay`` gives it a rate of its own.

    ``scale``: the group's rate, over ``lr``.
    """
    layers: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            layers.setdefault(rate_scale(net, name, config.layer_decay), []).append(parameter)
    groups = []
    for scale, parameters in layers.items():
        decayed = [p for p in parameters if p.ndim > 1 or config.decay_norms]
        others = [p for p in parameters if not (p.ndim > 1 or config.decay_norms)]
        for params, decay in ((decayed, config.weight_decay), (others, 0.0)):
            if params:
                groups.append({"params": params, "weight_decay": decay, "scale": scale})
    return groups


def rate_scale(net: nn.Module, name: str, layer_decay: float) -> float:
    """The rate of a parameter over ``lr``: ``layer_decay`` once for each stage between it and the end of the network
    (Howard and Ruder 2018, §3.2, with a factor for each stage).
    """
    if layer_decay == 1:
        return 1.0
    assert isinstance(net, ResNet)
    return layer_decay ** (depth(net, "fc") - depth(net, name))


def build_optimizer(net: nn.Module, config: OptimizerConfig, *, scaled: bool = False) -> torch.optim.Optimizer:
    """scaled: a gradient scaler will skip steps that overflow. Where it skips the first one, PyTorch's fused SGD keeps
    whatever memory held as its momentum: then SGD is not fused."""
    groups = parameter_groups(net, config)
    # One pass over memory for each tensor's step; None leaves it to PyTorch.
    fused = True if next(net.parameters()).device.type in ("cpu", "cuda") else None
    nesterov = config.nesterov and config.momentum > 0
    if config.name == "sgd":
        fused = None if scaled else fused
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if config.name == "muon":
        return Muon(muon_groups(net, config), config.lr, config.momentum, nesterov)
    betas = (config.momentum, config.beta2)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, config.lr, betas=betas, fused=fused)
    return Lamb(groups, config.lr, betas=betas)


def rate_factor(config: ScheduleConfig, step: int, total: int) -> float:
    """The learning rate of update ``step`` (from 0) of ``total``, as a part of the peak rate, in [0, 1]."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.warmup_rate or (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if config.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if config.name == "onecycle":
        return 1 - progress
    if config.name == "step":
        return config.gamma ** sum(step >= m * total for m in config.milestones)
    return 1.0


class Average:
    """Exponential moving average of parameters and norm statistics (Polyak and Juditsky 1992).

    After update t the decay is min(1 − 1/horizon, (1 + t)/(10 + t)), so that the start is forgotten early.
    """

    def __init__(self, net: nn.Module, horizon: float) -> None:
        self.decay = 1 - 1 / max(1.0, horizon)
        self.state = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """``step``: updates done, this one included."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        current = net.state_dict()
        floats = [n for n, v in self.state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in floats], [current[n] for n in floats], weight)
        for name in self.state.keys() - set(floats):  # counters
            self.state[name].copy_(current[name])
