"""How fast graphs answer, at any side of the pictures, without training anything: by the code of ``resight bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from resight.errors import TrainingError
from resight.images import printable
from resight.runs.storage import sha256_of, write_atomic

BACKEND = "onnxruntime"
_SECONDS, _ROUNDS = 0.25, 3


def at_side(graph: Path, side: int, path: Path) -> Path:
    """Writes the graph for pictures of another side: convolutions and means over pixels do not depend on it.

    The same weights and operators as an export at that side has.
    """
    import onnx

    model = onnx.load(graph)
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[1].dim_value = shape.dim[2].dim_value = side
    del model.graph.value_info[:]  # of the old side
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        for dim, name in zip(dims[2:], ("height", "width"), strict=False):
            dim.dim_param = name
    write_atomic(path, model.SerializeToString())
    return path


def speeds(
    graphs: Sequence[tuple[Path, int]], channels: int, threads: int, batch: int, seconds: float
) -> list[tuple[float, float] | None]:
    """Pictures a second of each (graph, side): one after the other, and for many; medians of three rounds.

    None for those that there was no time for within ``seconds``; the first ones are measured in any case, once each.
    Raises TrainingError when measuring fails.
    """
    asked = [[str(path), sha256_of(path), side, channels] for path, side in graphs]
    text = json.dumps({"graphs": asked, "threads": threads, "batch": batch, "seconds": seconds})
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; from resight.advising.graphs import main; main(sys.argv[1])", text],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise TrainingError(f"measuring how fast networks answer failed: {printable(reason[0], 500)}")
    found: dict[int, list[tuple[float, float]]] = {}
    for line in done.stdout.splitlines():
        number, one, many = json.loads(line)
        found.setdefault(number, []).append((one, many))
    rates = [found.get(number) for number in range(len(graphs))]
    return [(median(one for one, _ in rate), median(many for _, many in rate)) if rate else None for rate in rates]


def main(text: str) -> None:
    """In the measuring process, which has no PyTorch: one line of JSON for each measurement."""
    import time

    from resight.inference.measure import measure_here

    asked, began = json.loads(text), time.perf_counter()
    for number_of_round in range(_ROUNDS):
        for number, (path, sha256, side, channels) in enumerate(asked["graphs"]):
            if number + number_of_round and time.perf_counter() - began > asked["seconds"]:
                return
            shape = (side, side, channels)
            plain = json.loads(
                measure_here(Path(path), sha256, BACKEND, shape, asked["threads"], asked["batch"], _SECONDS, 0)
            )
            sys.stdout.write(json.dumps([number, plain["one"], plain["many"]]) + "\n")
            sys.stdout.flush()
