"""Networks without batch normalisation: against the same weights between norms that change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resight.errors import UsageError
from resight.models import create, spec_of, zero_gamma

NAMES = ["resnet8", "resnet8_plain", "preact_resnet8", "resnet18d", "resnet50", "preact_resnet50", "seresnet18"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_a_net_whose_norms_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    bare, normed = (create(name, num_classes=3, stem="tiny", norm=norm).eval() for norm in ("none", "batch"))
    assert not [m for m in bare.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.bias is not None for m in bare.modules() if isinstance(m, nn.Conv2d))
    report = normed.load_state_dict(bare.state_dict(), strict=False)
    assert all(key.endswith(".bias") for key in report.unexpected_keys)  # of convolutions; they are zeros
    for module in normed.modules():  # fresh statistics are 0 and 1; without epsilon the norm is an identity
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(bare(pictures), normed(pictures), rtol=1e-4, atol=1e-4 * float(bare(pictures).std()))


@pytest.mark.parametrize("name", ["resnet8", "preact_resnet8", "resnet50"])
def test_zero_gamma_without_norms_zeroes_the_last_convolution(name: str) -> None:
    net = create(name, num_classes=3, stem="tiny", norm="none")
    zero_gamma(net)
    assert all((block.last == 0).all() for block in net.blocks)
    block = net.blocks[1].eval()
    x = torch.rand(1, 16 if name != "resnet50" else 256, 8, 8)
    if name != "resnet50":
        block = net.blocks[0].eval()
    with torch.no_grad():
        torch.testing.assert_close(block(x), x)  # positive, so that the ReLU after the sum changes nothing


def test_other_norms_are_refused() -> None:
    with pytest.raises(UsageError, match="norm must be batch or none"):
        spec_of("resnet20", norm="group")
