"""Responses of layers against a forward pass written out."""

from __future__ import annotations

import pytest
import torch

from resight.models import create
from resight.studying.layers import convolutions, responses


def test_layers_are_in_the_order_of_the_way_and_leave_shortcuts_out() -> None:
    names = list(convolutions(create("resnet8", num_classes=3, shortcut="B")))
    blocks = [f"layer{stage}.0.conv{k}" for stage in (1, 2, 3) for k in (1, 2)]
    assert names == ["conv1", *blocks]
    assert len(convolutions(create("resnet20", num_classes=3))) == 19


def test_responses_are_after_the_norm_and_before_relu_and_addition() -> None:
    torch.manual_seed(0)
    net = create("resnet8", num_classes=3).train()
    net(torch.randn(4, 3, 28, 28))  # so that the norms have statistics of their own
    images = torch.randn(3, 3, 28, 28)
    found = responses(net, images)
    assert net.training
    net.eval()
    with torch.no_grad():
        expected, x = {}, net.bn1(net.conv1(images))
        expected["conv1"] = x.std()
        x = x.relu()
        for name, block in ((f"layer{k}.0", net.blocks[k - 1]) for k in (1, 2, 3)):
            first = block.bn1(block.conv1(x))
            second = block.bn2(block.conv2(first.relu()))
            expected |= {f"{name}.conv1": first.std(), f"{name}.conv2": second.std()}
            x = (second + (x if block.downsample is None else block.downsample(x))).relu()
    assert list(found) == list(expected)
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


@pytest.mark.parametrize(("name", "options"), [("preact_resnet8", {}), ("resnet8", {"norm": "none"})])
def test_without_a_norm_behind_it_the_convolution_itself_responds(name: str, options: dict[str, str]) -> None:
    torch.manual_seed(0)
    net, images = create(name, num_classes=3, **options).eval(), torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        assert responses(net, images)["conv1"] == pytest.approx(float(net.conv1(images).std()), rel=1e-5)
