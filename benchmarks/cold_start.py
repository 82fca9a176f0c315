"""P6: from a cold start to the first label: ``resight predict`` for one photo, against a short script with PyTorch.

    python benchmarks/cold_start.py [--picture FILE] [--python PYTHON] [--rounds 5]

Each round is a process of its own, from its start to its end. The script does no more than it must: import torch and
torchvision, build the network, load its weights, decode and transform the photo, answer, print. Memory is the peak
resident set that the kernel reports for the process. Our interpreter is that of the answering half alone where
RESIGHT_ANSWERING_PYTHON names one (`make bench` does), else this one. Files are in the page cache. Two threads on both
sides.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import answering
from common import PEERS, row, save

TARGET, NEAR = 5.0, 1e-3
SCRIPT = """
import sys, json
import torch, torchvision
from PIL import Image
from torchvision import transforms
model, weights, picture, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
net = getattr(torchvision.models, model)(num_classes=1000)
net.load_state_dict(torch.load(weights, weights_only=True))
prepare = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
with torch.inference_mode():
    best = net.eval()(prepare(Image.open(picture).convert("RGB"))[None]).softmax(1)[0].max(0)
print(json.dumps([{"label": f"class {int(best.indices)}", "probability": float(best.values)}]))
"""


def once(command: list[str | int | Path]) -> tuple[float, float, dict]:
    """Seconds, peak MiB, and the answer that it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        sys.exit(f"{command[0]} failed with exit code {process.returncode}")
    return seconds, usage.ru_maxrss / 1024, json.loads(text)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="default: a generated JPEG of 500 × 375")
    parser.add_argument("--python", default=os.environ.get("RESIGHT_ANSWERING_PYTHON") or sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows, notes, threads = [], [], ["--threads", args.threads]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        picture = args.picture or next(answering.generate_photos(folder / "photo", 1).iterdir())
        for model in answering.MODELS:
            run = answering.make_run(model, folder / model)
            sides = {
                "resight predict": [args.python, "-m", "resight.cli", "predict", run, picture, "--json", *threads],
                "torch": [PEERS, "-c", SCRIPT, model, folder / model / answering.WEIGHTS, picture, args.threads],
            }
            answers = {side: once(command)[2] for side, command in sides.items()}  # files are cached from here on
            one, other = answers.values()
            difference = abs(one["probability"] - other["probability"])
            if one["label"] != other["label"] or difference > NEAR:
                sys.exit(f"the sides answer differently: {answers}")
            found: dict[str, list[tuple[float, float, dict]]] = {side: [] for side in sides}
            for number in range(args.rounds):
                for side, command in sides.items():
                    found[side].append(once(command))
                    print(f"round {number + 1} of {args.rounds}  {model} {side}: {found[side][-1]}", file=sys.stderr)
            seconds = {side: [r[0] for r in results] for side, results in found.items()}
            memory = {side: statistics.median(r[1] for r in results) for side, results in found.items()}
            ours, theirs = seconds.items()
            equal = f"one photo: the same label, |Δp| {difference:.1g}"
            rows.append(row(model, ours, theirs, unit="s", target=TARGET, equal=equal, more_is_better=False))
            notes.append(
                f"{model}: peak memory " + ", ".join(f"{side} {peak:.0f} MiB" for side, peak in memory.items())
            )
    command = "python benchmarks/cold_start.py"
    save(
        "P6-cold-start",
        title="Cold start to the first label",
        target="P6",
        command=command,
        rows=rows,
        notes=notes,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
