"""Recomputing activations changes memory and nothing else, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resight.models import create


def train_two_steps(name: str, checkpointing: bool, **options: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and gradients of two steps, and the state afterwards."""
    torch.manual_seed(3)
    net = create(name, num_classes=4, **options)
    net.checkpointing = checkpointing
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    seen: list[Tensor] = []
    for step in range(2):
        torch.manual_seed(step)  # stochastic depth draws from here
        pictures, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
        optimizer.zero_grad()
        loss = F.cross_entropy(net(pictures), labels)
        loss.backward()
        seen += [loss.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
        optimizer.step()
    return seen, net.state_dict()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {}),
        ("resnet20", {"stochastic_depth": 0.5}),
        ("preact_resnet18", {"stochastic_depth": 0.5, "stem": "tiny"}),
        ("seresnet18", {"shortcut": "D"}),
        ("resnet50", {"stem": "tiny"}),
    ],
)
def test_checkpointing_is_bitwise_equal(name: str, options: dict[str, Any]) -> None:
    plain, plain_state = train_two_steps(name, False, **options)
    saved, saved_state = train_two_steps(name, True, **options)
    assert len(plain) == len(saved) > 20
    assert all(torch.equal(a, b) for a, b in zip(plain, saved, strict=True))
    assert list(plain_state) == list(saved_state)
    assert all(torch.equal(plain_state[key], saved_state[key]) for key in plain_state)
    counters = {int(t) for key, t in saved_state.items() if key.endswith("num_batches_tracked")}
    assert counters == {2}


def test_stochastic_depth_really_drops_in_that_comparison() -> None:
    with_drop, _ = train_two_steps("resnet20", True, stochastic_depth=0.5)
    without, _ = train_two_steps("resnet20", True)
    assert not torch.equal(with_drop[0], without[0])


def test_checkpointing_keeps_fewer_tensors() -> None:
    """Counts the bytes that autograd saves for the backward pass."""

    def saved_bytes(checkpointing: bool) -> int:
        net = create("resnet56", num_classes=4)
        net.checkpointing = checkpointing
        own = {p.data_ptr() for p in net.parameters()}
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in own:
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = net(torch.randn(2, 3, 32, 32)).sum()
        assert loss.requires_grad
        return sum(sizes.values())

    assert saved_bytes(True) < saved_bytes(False) / 3


def test_evaluation_is_not_checkpointed() -> None:
    net = create("resnet20", num_classes=4).eval()
    pictures = torch.randn(2, 3, 32, 32)
    expected = net(pictures)
    net.checkpointing = True
    assert torch.equal(net(pictures), expected)
