"""The deepest net of the papers fits into a laptop's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEP = """
import torch
from torch.nn import functional as F
from resight.models import create

torch.manual_seed(0)
net = create("resnet1202", num_classes=10)
net.checkpointing = True
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loss = F.cross_entropy(net(torch.randn(128, 3, 32, 32)), torch.randint(10, (128,)))
loss.backward()
optimizer.step()
assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
with open("/proc/self/status") as status:  # ru_maxrss would carry the parent's peak along
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024)
"""


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_resnet_1202_trains_with_batch_128_in_8_gb() -> None:
    """He et al. 2015, §4.2, batch and all; a process of its own, so that the peak is this step's alone."""
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    print(f"\nResNet-1202, batch 128, checkpointing: peak {int(done.stdout) / 1e9:.2f} GB")
    assert int(done.stdout) < 8e9
