"""P4: int8 (NNCF's post-training quantization, through OpenVINO) against the best fp32 backend, batches of 1 and 16.

    python benchmarks/int8.py [--rounds 5] [--photos FOLDER] [--trained RUN DATA]…

Speed: ResNet-18 and -50 at 224 px, two threads, one question at a time. Accuracy: of each trained RUN, whose int8 form
is calibrated on pictures of DATA/train and scored on all of DATA/test (or DATA/val), with a paired 95 % interval of
what was lost (bootstrap over pictures). Without trained weights only how often both forms agree is known.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import answering
from common import interleave, row, save

BATCHES, TARGET, LOST = (1, 16), 1.8, 0.5
CALIBRATION = 300
FORMS = {"onnxruntime, fp32": "onnxruntime", "openvino, fp32": "openvino", "openvino, int8": "openvino"}
INT8 = "openvino, int8"


def once(run: Path, backend: str, threads: int, seconds: float) -> dict[str, float]:
    """Pictures a second, for each size of batch."""
    from resight.inference import open_backend
    from resight.runs import ONNX, Run

    opened = Run.open(run)
    side, channels = opened.card.geometry.size, opened.card.channels
    ready = open_backend(backend, opened.file(ONNX), threads, sha256=opened.card.files[ONNX])
    found = {}
    for batch in BATCHES:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, channels), dtype=np.uint8)
        ready.answer(pixels, ("probabilities",))
        count, start = 0, time.perf_counter()
        while count < 3 or time.perf_counter() - start < seconds:
            ready.answer(pixels, ("probabilities",))
            count += 1
        found[str(batch)] = count * batch / (time.perf_counter() - start)
    return found


def agreement(fp32: Path, int8: Path, pictures: Path) -> str:
    """How often both forms answer alike; for weights that were never trained."""
    from resight import predict

    one, other = (predict(run, pictures, backend="openvino") for run in (fp32, int8))
    same = sum(a.label == b.label for a, b in zip(one, other, strict=True))
    return f"untrained weights: the same best class for {same} of {len(one)} photos; no accuracy to lose"


def lost(fp32: Path, int8: Path, data: Path) -> tuple[str, float]:
    """Accuracy of both forms on labelled pictures, and what was lost, in points, in its paired interval."""
    from resight import evaluate_run
    from resight.evaluation import percentile, resampled_means

    part = data / "test" if (data / "test").is_dir() else data / "val"
    hits = []
    for run in (fp32, int8):
        result = evaluate_run(run, part, part="all", backend="openvino")
        hits.append((result.predicted == result.labels).astype(float))
    difference = hits[0] - hits[1]
    loss = percentile(float(difference.mean()), resampled_means(difference[:, None])[:, 0])
    changed = float((difference != 0).mean())
    text = (
        f"accuracy {100 * hits[0].mean():.2f} % → {100 * hits[1].mean():.2f} %, lost {100 * loss.value:.2f} points "
        f"[{100 * loss.low:.2f}, {100 * loss.high:.2f}], n {len(difference):,}; right or wrong otherwise for "
        f"{100 * changed:.2f} %"
    )
    return text, 100 * loss.value


def rows_of(
    name: str, fp32: Path, int8: Path, equal: str, target: float | None, args: argparse.Namespace
) -> list[dict]:
    options = ["--threads", str(args.threads), "--seconds", str(args.seconds)]
    sides = {
        form: [__file__, "--side", int8 if form == INT8 else fp32, backend, *options] for form, backend in FORMS.items()
    }
    found = interleave(sides, args.rounds)
    rows = []
    for batch in map(str, BATCHES):
        rates = {form: [r[batch] for r in results] for form, results in found.items()}
        best = max((form for form in FORMS if form != INT8), key=lambda form: statistics.median(rates[form]))
        ours, theirs = (INT8, rates[INT8]), (best, rates[best])
        rows.append(row(f"{name}, batch {batch}", ours, theirs, unit="pictures/s", target=target, equal=equal))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photos", type=Path, help="to calibrate and compare the untrained ones; default: generated")
    parser.add_argument("--trained", type=Path, nargs=2, action="append", default=[], metavar=("RUN", "DATA"))
    parser.add_argument("--side", nargs=2, metavar=("RUN", "BACKEND"), help="used by the program itself")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(once(Path(args.side[0]), args.side[1], args.threads, args.seconds)))
        return
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = args.photos or answering.generate_photos(folder / "photos", 200)
        for model in answering.MODELS:
            run = answering.make_run(model, folder / model)
            int8 = answering.quantized_run(run, photos, CALIBRATION, folder / model / "int8")
            rows += rows_of(model, run, int8, agreement(run, int8, photos), TARGET, args)
        for number, (run, data) in enumerate(args.trained):
            int8 = answering.quantized_run(run, data / "train", CALIBRATION, folder / f"trained-{number}")
            text, points = lost(run, int8, data)
            if points > LOST:
                missed.append(f"{run.name} lost {points:.2f} points, more than the {LOST} allowed.")
            rows += rows_of(_name(run), run, int8, text, None, args)
    save(
        "P4-int8",
        title="int8 against fp32",
        target="P4",
        command="python benchmarks/int8.py --trained RUN DATA",
        rows=rows,
        notes=[
            f"Calibrated on up to {CALIBRATION} pictures, in the Run's geometry. One question at a time.",
            "Where OpenVINO computes quantized additions wrongly (it is compared with ONNX Runtime), they stay fp32.",
            *missed,
        ],
    )


def _name(run: Path) -> str:
    from resight.runs import Run

    card = Run.open(run, verify=False).card
    return f"{card.architecture.name}, {card.geometry.size} px, trained"


if __name__ == "__main__":
    sys.exit(main())
