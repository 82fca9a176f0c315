"""Memory and time of an update by depth, with and without checkpointing, beside what was counted before.

    python benchmarks/depth_memory.py [--pictures 16] [--rounds 5] [--only resnet20 …]

Each case is a process of its own with one thread: forward, backward and an SGD step with momentum, 32 px, fp32. Memory
is the peak of the resident set (VmHWM) above what the process had before its first large batch; beside it stands the
count of tensors without data (`resight.training.live`), by which `resight train` decides. Time is processor time, which
other programs on the machine disturb less than the clock: in one process, updates without and with checkpointing in
turn, after one of each.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from common import RESULTS, machine, measure

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from resight.models import ResNet

NETS = (
    *("resnet20", "resnet56", "resnet110", "preact_resnet164", "preact_resnet1001", "resnet1202"),
    *("resnet56 stochastic_depth=0.5",),
)
SIDE, CLASSES = 32, 10


def network(case: str, device: str) -> ResNet:
    """``case``: a name, and options of the network after it."""
    import torch

    from resight.models import create

    name, *options = case.split()
    chosen: dict[str, Any] = {key: float(value) for key, _, value in (option.partition("=") for option in options)}
    torch.manual_seed(0)
    with torch.device(device):
        return create(name, num_classes=CLASSES, **chosen).to(memory_format=torch.channels_last)


def update(net: ResNet, optimizer: Optimizer, count: int) -> float:
    """Processor seconds of an update with ``count`` pictures."""
    import torch
    from torch.nn import functional as F

    images = torch.randn(count, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count) % CLASSES
    start = time.process_time()
    F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.process_time() - start


def memory(case: str, pictures: int, checkpointing: bool) -> dict[str, float]:
    """Bytes of an update, taken and counted."""
    import torch

    from resight.training import live
    from resight.training.machine import give_memory_back, keep_memory, return_memory
    from resight.training.memory import peak_memory, reset_peak, resident

    torch.set_num_threads(1)
    _ = return_memory() if checkpointing else keep_memory()  # as training does
    counted, net = network(case, "meta"), network(case, "cpu")
    counted.checkpointing = net.checkpointing = checkpointing
    most = live.measure(counted, pictures, SIDE)[1]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    update(net, optimizer, 1)
    give_memory_back()
    before = resident()
    reset_peak()
    for _ in range(2):
        update(net, optimizer, pictures)
    return {"bytes": peak_memory() - before, "counted": most, "pictures": pictures}


def times(case: str, pictures: int, rounds: int) -> dict[str, Any]:
    """Processor seconds of updates, without and with checkpointing in turn."""
    import torch

    from resight.training.machine import keep_memory, return_memory

    torch.set_num_threads(1)
    net = network(case, "cpu")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds + 1):
        for net.checkpointing in found:
            _ = return_memory() if net.checkpointing else keep_memory()
            found[net.checkpointing].append(update(net, optimizer, pictures))
    plain, again = (found[kind][1:] for kind in (False, True))
    ratios = [b / a for a, b in zip(plain, again, strict=True)]
    return {
        "pictures": pictures,
        "seconds": min(plain) / pictures,
        "checkpointing_seconds": min(again) / pictures,
        "ratio": median(ratios),
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16, help="in an update; a quarter from 1,000 layers on")
    parser.add_argument("--rounds", type=int, default=5, help="of the times")
    parser.add_argument("--only", nargs="*", default=NETS)
    parser.add_argument("--case", nargs=3, metavar=("NET", "N", "WHAT"), help="one case (used by the program itself)")
    args = parser.parse_args()
    if args.case:
        net, count, what = args.case[0], int(args.case[1]), args.case[2]
        print(json.dumps(times(net, count, args.rounds) if what == "times" else memory(net, count, what == "again")))
        return
    cases: dict[str, Any] = {}
    for net in args.only:
        deep = any(str(depth) in net for depth in (1001, 1202))
        count = max(1, args.pictures // 4) if deep else args.pictures
        for what in ("plain", "again", "times"):
            command = [__file__, "--case", net, str(count), what, "--rounds", str(args.rounds)]
            found = cases.setdefault(net, {})[what] = measure(command)
            print(net, what, found, flush=True)
            done = {"machine": machine(1), "cases": cases}
            (RESULTS / "deep" / "memory.json").write_text(json.dumps(done, indent=2) + "\n")


if __name__ == "__main__":
    main()
