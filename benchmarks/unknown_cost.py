"""What 'unknown' costs: the score beside one picture's inference, reading the reference, making it.

    python benchmarks/unknown_cost.py

Interleaved, one thread, one picture at a time, untrained networks at 224 px with a full bank; medians. Result:
benchmarks/results/unknown/cost.json.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import answering
from common import machine
from unknown import FOLDER

ROUNDS = 40


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cost(path: Path) -> dict[str, float]:
    from resight import Predictor, Run
    from resight.inference.unknown import NEIGHBOURS, Reference, bank_size

    run = Run.open(path)
    predictor, side = Predictor(run, backend="onnxruntime", threads=1), run.card.geometry.size
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    embedding = predictor.run_pixels(pixels).embedding
    count, width = bank_size(embedding.shape[1]), embedding.shape[1]
    labels = np.arange(count) % 10
    bank = random.random((count, width)).astype(np.float32)
    fitting = time.perf_counter()
    reference = Reference.fit(bank, labels, labels, [f"{k}.jpg" for k in labels])
    fitting = time.perf_counter() - fitting
    data = reference.to_bytes()
    reading = statistics.median(seconds(lambda: Reference.from_bytes(data).scorer(NEIGHBOURS)) for _ in range(5))
    score = reference.scorer(NEIGHBOURS)
    plain, scored = [], []
    for _ in range(ROUNDS):
        plain.append(seconds(lambda: predictor.ask(pixels, ("probabilities",))))
        scored.append(seconds(lambda: score(embedding)))
    found = {"inference_ms": 1e3 * statistics.median(plain), "score_ms": 1e3 * statistics.median(scored)}
    share = statistics.median(s / p for s, p in zip(scored, plain, strict=True))
    about = {"pictures": count, "width": width, "file_mb": len(data) / 1e6}
    return about | found | {"share": share, "read_ms": 1e3 * reading, "fit_s": fitting}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        found = {model: cost(answering.make_run(model, Path(temporary) / model)) for model in answering.MODELS}
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(1), "networks": found}
    (FOLDER / "cost.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
