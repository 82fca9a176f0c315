"""Memory and time of an update by depth, with and without checkpointing, beside what was counted before.

    python benchmarks/depth_memory.py [--pictures 16] [--rounds 1] [--only resnet20 …]

Each case is a process of its own with one thread: forward, backward and an SGD step with momentum, 32 px, fp32. Memory
is the peak of the resident set (VmHWM) above what the process had before its first large batch; beside it stands the
count of tensors without data (`resight.training.live`), by which `resight train` decides. Time is the processor time of
the quickest of three updates, which other programs on the machine disturb less than the clock; the sides of one network
follow each other.
"""

from __future__ import annotations

import argparse
import json
import time

from common import RESULTS, interleave, machine

NETS = (
    *("resnet20", "resnet56", "resnet110", "preact_resnet164", "preact_resnet1001", "resnet1202"),
    *("resnet56 stochastic_depth=0.5",),
)
SIDE, CLASSES = 32, 10


def one(case: str, pictures: int, checkpointing: bool) -> dict[str, float]:
    """Bytes a picture and processor seconds of an update."""
    import torch
    from torch.nn import functional as F

    from resight.models import create
    from resight.training.live import measure
    from resight.training.machine import keep_memory, return_memory
    from resight.training.memory import peak_memory, reset_peak, resident

    torch.set_num_threads(1)
    _ = return_memory() if checkpointing else keep_memory()  # as training does
    name, *options = case.split()
    chosen = {key: float(value) for key, _, value in (option.partition("=") for option in options)}
    with torch.device("meta"):
        counted = create(name, num_classes=CLASSES, **chosen)
    counted.checkpointing = checkpointing
    most = measure(counted, pictures, SIDE)[1]
    torch.manual_seed(0)
    net = create(name, num_classes=CLASSES, **chosen).to(memory_format=torch.channels_last)
    net.checkpointing = checkpointing
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def update(count: int) -> float:
        images = torch.randn(count, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
        labels = torch.arange(count) % CLASSES
        start = time.process_time()
        F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.process_time() - start

    update(1)
    before = resident()
    reset_peak()
    seconds = min([update(pictures) for _ in range(4)][1:])
    return {"bytes": peak_memory() - before, "counted": most, "seconds": seconds, "pictures": pictures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16, help="in an update; a quarter from 1,000 layers on")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=NETS)
    parser.add_argument("--case", nargs=3, metavar=("NET", "N", "AGAIN"), help="one case (used by the program itself)")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(one(args.case[0], int(args.case[1]), args.case[2] == "1")))
        return
    sides = {}
    for net in args.only:
        deep = any(str(depth) in net for depth in (1001, 1202))
        count = max(1, args.pictures // 4) if deep else args.pictures
        for kind in ("0", "1"):
            sides[f"{net}{', checkpointing' if kind == '1' else ''}"] = [__file__, "--case", net, str(count), kind]
    found = interleave(sides, args.rounds)
    (RESULTS / "depth-memory.json").write_text(json.dumps({"machine": machine(1), "cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
