"""P5: a folder of JPEG files, end to end: `resight predict` against timm's inference loop in eager PyTorch.

    python benchmarks/predict_folder.py [--photos FOLDER] [--count 256] [--rounds 5]

From opened network to the last answer written as CSV: finding, reading, decoding, resizing, computing, writing.
Imports and opening the network are left out (that is P6). timm's side is what its `inference.py` does (1.0.31):
`create_dataset`, `create_loader` with two workers, softmax and top-k of each batch, here of 32. Two threads on both
sides. The geometry is the same on both, so that answers can be compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import answering
from common import PEERS, interleave, measure, row, save

TARGETS = {"fp32": 2.2, "int8": 4.0}
TOP, PEER_BATCH, WORKERS, NEAR, CALIBRATION = 5, 32, 2, 1e-3, 300
EXAMINED = 16
INT8 = "openvino-int8"


def ours(run: Path, photos: Path, out: Path, backend: str, threads: int, artifact: str | None) -> float:
    from resight.commands.predict import find_sources, prepare
    from resight.inference import write

    predictor = prepare(run, photos, artifact=artifact, backend=backend, threads=threads).predictor
    start = time.perf_counter()
    write(predictor.predict(find_sources(photos), TOP), "csv", out)
    return time.perf_counter() - start


def timm_loop(model: str, weights: Path, photos: Path, out: Path, threads: int) -> float:
    """After timm's ``inference.py``."""
    import torch
    from timm.data import create_dataset, create_loader

    net = answering.torch_net(model, weights, threads)
    start = time.perf_counter()
    dataset = create_dataset(root=str(photos), name="")
    loader = create_loader(
        dataset,
        input_size=(3, answering.SIZE, answering.SIZE),
        batch_size=PEER_BATCH,
        use_prefetcher=False,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_pct=0.875,
        num_workers=WORKERS,
    )
    best: list[tuple[np.ndarray, np.ndarray]] = []
    with torch.inference_mode():
        for pixels, _ in loader:
            values, places = net(pixels).softmax(-1).topk(TOP)
            best.append((places.numpy(), values.numpy()))
    places, values = (np.concatenate(arrays) for arrays in zip(*best, strict=True))
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "label", "probability"])
        for name, place, value in zip(dataset.filenames(), places, values, strict=True):
            writer.writerow([name, f"class {place[0]}", value[0], *place[1:], *value[1:]])
    return time.perf_counter() - start


def compare(one: Path, other: Path) -> tuple[float, int, int]:
    """Largest difference in the best probability where the best class is the same; how often it is; of how many."""
    answers = []
    for path in (one, other):
        with path.open(newline="", encoding="utf-8") as file:
            answers.append(
                {Path(r["source"]).name: (r["label"], float(r["probability"])) for r in csv.DictReader(file)}
            )
    if answers[0].keys() != answers[1].keys():
        sys.exit("the sides answered for different files")
    pairs = [(answers[0][name], answers[1][name]) for name in answers[0]]
    same = [abs(a[1] - b[1]) for a, b in pairs if a[0] == b[0]]
    return max(same, default=1.0), len(same), len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="default: generated, 500 × 375")
    parser.add_argument("--count", type=int, default=256, help="files in the folder; given photos are repeated")
    parser.add_argument("--backend", default="openvino", help="that answers, on our side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", nargs=5, metavar=("SIDE", "MODEL", "FOLDER", "PHOTOS", "OUT"), help="for the program")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(once(*args.side, args)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = answering.photos(args.photos, folder / "photos", args.count)
        for model in answering.MODELS:
            rows += rows_of(model, folder / model, photos, args)
    notes = [
        f"{args.count} files, {'given' if args.photos else 'generated, 500 × 375'}; {args.backend} answers.",
        f"int8: calibrated on up to {CALIBRATION} of the same photos; untrained weights, so agreement says little.",
    ]
    command = "python benchmarks/predict_folder.py"
    save(
        "P5-predict-folder",
        title="A folder of JPEG files",
        target="P5",
        command=command,
        rows=rows,
        notes=notes,
        threads=args.threads,
    )


def once(side: str, model: str, folder: str, photos: str, out: str, args: argparse.Namespace) -> dict[str, float]:
    place = Path(folder)
    if side == "timm":
        seconds = timm_loop(model, place / answering.WEIGHTS, Path(photos), Path(out), args.threads)
    else:
        artifact = None if side == "fp32" else INT8
        seconds = ours(place / "run", Path(photos), Path(out), args.backend, args.threads, artifact)
    return {"pictures_per_second": sum(1 for _ in Path(photos).iterdir()) / seconds}


def rows_of(model: str, folder: Path, photos: Path, args: argparse.Namespace) -> list[dict]:
    run = answering.make_run(model, folder)
    if answering.quantize(run, photos, CALIBRATION) != INT8:
        sys.exit(f"int8 was expected as the artefact {INT8}")
    options = ["--backend", args.backend, "--threads", str(args.threads)]
    names = ("timm", "fp32", "int8")
    few = answering.photos(photos, folder / "few", EXAMINED)

    def command(side: str, pictures: Path) -> list[str | Path]:
        return [__file__, "--side", side, model, folder, pictures, folder / f"{side}.csv", *options]

    for side in names:
        measure(command(side, few), python=PEERS if side == "timm" else sys.executable)
    equal = {}
    for form in ("fp32", "int8"):
        worst, same, of = compare(folder / f"{form}.csv", folder / "timm.csv")
        if form == "fp32" and (same < of or worst > NEAR):
            sys.exit(f"the sides answer differently: best class for {same} of {of}, by {worst} in probability")
        equal[form] = f"{of} photos against timm: same best class for {same}, its |Δp| ≤ {worst:.1g}"
    found = interleave({side: command(side, photos) for side in names}, args.rounds, pythons={"timm": PEERS})
    rates = {side: [r["pictures_per_second"] for r in results] for side, results in found.items()}
    return [
        row(
            f"{model}, {form}",
            (f"resight predict, {form}", rates[form]),
            ("timm's inference loop, eager", rates["timm"]),
            unit="pictures/s",
            target=TARGETS[form],
            equal=equal[form],
        )
        for form in ("fp32", "int8")
    ]


if __name__ == "__main__":
    main()
