"""P4: int8 (NNCF's post-training quantization, through OpenVINO) against the best fp32 backend, batches of 1 and 16.

    python benchmarks/int8.py [--rounds 5] [--photos FOLDER] [--trained RUN DATA]…

Speed: ResNet-18 and -50 at 224 px, two threads, one question at a time. Accuracy: of each trained RUN, whose int8 form
is calibrated on pictures of DATA/train and scored on all of DATA/test (or DATA/val), with a paired 95 % interval of
what was lost (bootstrap over pictures). Untrained weights have none to lose: without --trained that row says so.
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
from common import interleave, lost_row, row, save

BATCHES, TARGET, LOST = (1, 16), 1.8, 0.5
CALIBRATION = 300
FORMS = {"onnxruntime, fp32": "onnxruntime", "openvino, fp32": "openvino", "openvino, int8": "openvino"}
FP32, INT8 = "openvino, fp32", "openvino, int8"


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
    """How often both forms answer alike."""
    from resight import predict

    one, other = (predict(run, pictures, backend="openvino") for run in (fp32, int8))
    same = sum(a.label == b.label for a, b in zip(one, other, strict=True))
    return f"the same best class for {same:,} of {len(one):,} pictures"


def hits(run: Path, data: Path) -> np.ndarray:
    """For each labelled picture, whether the Run's answer is right: 0 or 1."""
    from resight import evaluate_run

    result = evaluate_run(run, _labelled(data), part="all", backend=FORMS[INT8])
    return (result.predicted == result.labels).astype(float)


def _labelled(data: Path) -> Path:
    return data / "test" if (data / "test").is_dir() else data / "val"


def accuracy_row(name: str, fp32: np.ndarray, int8: np.ndarray) -> dict:
    """Accuracy of both forms on the same pictures in the same order, and what was lost, in points."""
    changed = float((fp32 != int8).mean())
    return lost_row(
        f"{name}, accuracy",
        (INT8, _percent(int8)),
        (FP32, _percent(fp32)),
        _percent(fp32 - int8),
        unit="%",
        target=LOST,
        equal=f"the same pictures on both sides; right or wrong otherwise for {100 * changed:.2f} %",
    )


def _percent(values: np.ndarray) -> dict[str, float]:
    """The mean in percent, and its 95 % interval by bootstrap."""
    from resight.evaluation import percentile, resampled_means

    found = percentile(float(values.mean()), resampled_means(values[:, None])[:, 0])
    return {"median": 100 * found.value, "min": 100 * found.low, "max": 100 * found.high, "n": len(values)}


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
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = args.photos or answering.generate_photos(folder / "photos", 200)
        for model in answering.MODELS:
            run = answering.make_run(model, folder / model)
            int8 = answering.quantized_run(run, photos, CALIBRATION, folder / model / "int8")
            equal = f"untrained weights, no accuracy to lose; {agreement(run, int8, photos)}"
            rows += rows_of(model, run, int8, equal, TARGET, args)
        for number, (run, data) in enumerate(args.trained):
            int8 = answering.quantized_run(run, data / "train", CALIBRATION, folder / f"trained-{number}")
            name = f"{_name(run)} ({run.name})"
            rows.append(accuracy_row(name, hits(run, data), hits(int8, data)))
            rows += rows_of(name, run, int8, agreement(run, int8, _labelled(data)), None, args)
        if not args.trained:
            rows.append(lost_row("a trained network, accuracy", unit="%", target=LOST, equal="--trained was not given"))
    save(
        "P4-int8",
        title="int8 against fp32",
        target="P4",
        command="python benchmarks/int8.py --trained RUN DATA",
        rows=rows,
        notes=[
            f"Calibrated on up to {CALIBRATION} pictures, in the Run's geometry. One question at a time.",
            "Where OpenVINO computes quantized additions wrongly (it is compared with ONNX Runtime), they stay fp32.",
        ],
        threads=args.threads,
    )


def _name(run: Path) -> str:
    from resight.runs import Run

    card = Run.open(run, verify=False).card
    return f"{card.architecture.name}, {card.geometry.size} px, trained"


if __name__ == "__main__":
    sys.exit(main())
