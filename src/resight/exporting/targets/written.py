"""What all targets share: what they say of themselves, and how a graph in a folder is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resight.exporting.gate import Answer
from resight.inference import Predictor, open_backend
from resight.inference.backend import Floats, Pixels
from resight.runs import Artifact, Run


@dataclass(frozen=True)
class Written:
    """graph: the main file, a path below the artefact's folder. notes: what a person must know, above all what was not
    checked. packages: whose versions it was made with.
    """

    graph: str
    notes: Sequence[str] = ()
    packages: Sequence[str] = ()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Resight and these packages, as far as they are installed."""
    found = {}
    for name in ("resight", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def as_predicted(run: Run, artifact: Artifact, threads: int) -> Answer:
    """As ``resight predict --artifact`` asks it."""
    predictor = Predictor(run, artifact=artifact, threads=threads)
    return lambda pixels: predictor.run_pixels(pixels).probabilities


def as_graph(path: Path, sha256: str, threads: int) -> Answer:
    """Of an ONNX file within an artefact, by ONNX Runtime."""
    backend = open_backend("onnxruntime", path, threads, sha256=sha256)

    def answer(pixels: Pixels) -> Floats:
        return backend.answer(pixels, ("probabilities",))[0]

    return answer
