"""Pictures whose object is small: resized whole against cut into tiles, on a composed set (`tiles_pictures.py`).

In pieces, each of which leaves a file in --work and is not repeated:

    python benchmarks/tiles.py make  --work W --fashion FASHION_MNIST
    python benchmarks/tiles.py whole --work W --weights RUN        both sides start from the same Run of Fashion-MNIST
    python benchmarks/tiles.py tiles --work W --weights RUN
    python benchmarks/tiles.py point --work W                      the pointing game on the test part
    python benchmarks/tiles.py large --work W                      one picture of 100 megapixels
    python benchmarks/tiles.py table --work W

Accuracy with Wilson intervals, the difference paired, peak memory of each process, seconds of processor time (the
machine may be shared; they say what a side costs, not how long it takes). The pointing game (Zhang et al. 2016,
section 4.1): a hit is a map whose largest value lies in the object's box, or at most 15 px beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from tiles_pictures import boxes, make

COUNTS = {"train": 40, "val": 10, "test": 20}
TOLERANCE = 15
COMMON: dict[str, Any] = {"device": "cpu", "workers": 0, "seed": 0}
WHOLE: dict[str, Any] = {"image_size": 224, "batch": 16, "epochs": 5, "recipe": "finetune"}
TILES: dict[str, Any] = {"image_size": 32, "freeze": "backbone", "lr": 0.01, "epochs": 30}
IN_WHOLE = {"data.geometry": "squash", "augment.crop": "none", "augment.flip": "none"}
IN_TILES = {"data.geometry": "tiles", "tiles.side": 128, "tiles.stride": 96}


def train(side: str, work: Path, weights: Path) -> dict[str, Any]:
    import resight

    options, fields = (WHOLE, IN_WHOLE) if side == "whole" else (TILES, IN_TILES)
    out = work / side
    if not (out / "run.json").exists():
        fields = fields | {"data.disk_cache_gb": 0}
        resight.train(work / "composed", weights=weights, out=out, set=fields, **COMMON, **options)
    else:
        resight.resume(out)
    return spent()


def spent() -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def point(work: Path) -> dict[str, Any]:
    """Of every test picture the place where the map of its answer is largest, and the answer."""
    from resight.explaining import explain_tiles, read_head
    from resight.inference import Predictor
    from resight.inference.sources import whole_of
    from resight.runs import Run

    run = Run.open(work / "tiles")
    predictor, head = Predictor(run, backend="onnxruntime", threads=1), read_head(run)
    rows = []
    for name, box in boxes(work / "composed.csv").items():
        if not name.startswith("test/"):
            continue
        found = explain_tiles(predictor, whole_of(run.card, work / "composed" / name), head, [])
        x, y = found.maps[0].peak()
        left, top, right, bottom = box
        hit = left - TOLERANCE <= x < right + TOLERANCE and top - TOLERANCE <= y < bottom + TOLERANCE
        label = run.classes[found.classes[0]]
        rows.append({"file": name, "label": label, "right": label == Path(name).parent.name, "hit": hit})
    return {"rows": rows} | spent()


def large(work: Path, side: int = 10_000) -> dict[str, Any]:
    """A picture of 100 megapixels is answered by the Run: peak memory before and after."""
    from resight.inference import Predictor
    from resight.runs import Run

    file = work / "large.jpg"
    if not file.exists():
        from PIL import Image

        from tiles_pictures import texture

        part = texture(np.random.default_rng(9), side // 4)
        Image.fromarray(np.tile(part, (4, 4))).save(file, quality=85)
        raise SystemExit("made the picture: once more, for memory that making it did not take")
    predictor = Predictor(Run.open(work / "tiles"), backend="onnxruntime", threads=1)
    list(predictor.predict([work / "composed" / next(iter(boxes(work / "composed.csv")))]))
    before, begun = spent()["peak_mib"], time.process_time()
    (answer,) = predictor.predict([file])
    assert answer.error is None, answer.error
    after = spent()["peak_mib"]
    return {"before_mib": before, "after_mib": after, "seconds": time.process_time() - begun, "side": side}


def table(work: Path) -> str:
    from resight.evaluation.intervals import wilson
    from resight.evaluation.paired import paired_difference
    from resight.runs import Run

    sides, lines = {}, []
    for side in ("whole", "tiles"):
        run = Run.open(work / side)
        kept = np.load(work / side / "predictions.npz")
        sides[side] = kept["test_logits"].argmax(1) == kept["test_labels"]
        right, cost = sides[side], read(work, side)
        lines.append(
            f"{side:6} {shown(wilson(int(right.sum()), len(right)))} of {len(right)}, "
            f"{cost['peak_mib']:,.0f} MiB, {cost['seconds']:,.0f} s of processor time, {run.card.architecture.name}"
        )
    one, other = sides["tiles"], sides["whole"]
    counts = (one & other, one & ~other, ~one & other, ~one & ~other)
    lines.append(f"difference {shown(paired_difference(*(int(found.sum()) for found in counts)))}")
    rows = read(work, "point")["rows"]
    for what, chosen in (("all", rows), ("rightly answered", [row for row in rows if row["right"]])):
        hits = sum(row["hit"] for row in chosen)
        lines.append(f"pointing, {what}: {hits} of {len(chosen)}, {shown(wilson(hits, len(chosen)))}")
    big = read(work, "large")
    lines.append(
        f"{big['side']} × {big['side']}: {big['before_mib']:,.0f} → {big['after_mib']:,.0f} MiB, {big['seconds']:.0f} s"
    )
    return "\n".join(lines)


def shown(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def read(work: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / f"{name}.json").read_text("utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["make", "whole", "tiles", "point", "large", "table"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fashion", type=Path, help="a folder with the idx files of Fashion-MNIST")
    parser.add_argument("--weights", type=Path, help="a Run trained on Fashion-MNIST")
    asked = parser.parse_args()
    if asked.step == "make":
        make(asked.work / "composed", asked.fashion, COUNTS, seed=0)
        return
    if asked.step == "table":
        print(table(asked.work))
        return
    steps = {"point": point, "large": large}
    found = steps[asked.step](asked.work) if asked.step in steps else train(asked.step, asked.work, asked.weights)
    (asked.work / f"{asked.step}.json").write_text(json.dumps(found, indent=1), "utf-8")
    print(json.dumps({name: value for name, value in found.items() if name != "rows"}))


if __name__ == "__main__":
    main()
