"""Sub-networks of a Run as graphs that answer: in fp32, or quantized as an int8 artefact of the Run was."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resight.adapting.dropping import without
from resight.adapting.graphs import Graph, graph_of
from resight.adapting.tried import asked
from resight.errors import RunError, UsageError
from resight.exporting.int8.graph import Proto, prepared
from resight.exporting.int8.ir import BIN
from resight.exporting.int8.methods import is_quantized
from resight.exporting.int8.pictures import Calibration, calibration_pictures
from resight.exporting.int8.quiet import check_installed
from resight.exporting.int8.search import APART, TRIED_CALIBRATION, apart_of
from resight.exporting.int8.targets import TARGETS, Target, Workshop
from resight.images import printable
from resight.inference import Backend
from resight.inference.heads import Head
from resight.runs import Run, open_artifact
from resight.samples import SampleSet

MOST_PICTURES = 4096
"""That calibrate: the card that says how many may be a stranger's, and all are held in memory."""


@dataclass(frozen=True, eq=False)
class Int8:
    """How an artefact of a Run was quantized. graph: of the artefact. kept: names of the layers that are in fp32.
    pictures: how many of the training part calibrated. sha256: of its graph's file; weights: of the file beside it, of
    OpenVINO's own format.
    """

    graph: Graph
    target: Target
    kept: tuple[str, ...]
    seven_bits: bool
    pictures: int
    sha256: str
    weights: str | None

    def nodes(self, model: Proto) -> set[str]:
        """The nodes, in the whole network's graph, of the layers that stay in fp32. Raises RunError for a layer that is
        not there.
        """
        layers = {layer.name: layer.nodes for layer in self.target.layers(model)}
        if unknown := [name for name in self.kept if name not in layers]:
            raise RunError(
                f"{self.graph.artifact} keeps {printable(unknown[0])} in fp32, and this network has no such layer",
                hint="make the artefact again: resight export RUN --int8",
            )
        return {node for name in self.kept for node in layers[name]}

    def to_dict(self) -> dict[str, Any]:
        """For the card."""
        bits = 7 if self.seven_bits else 8
        about = {"artifact": self.graph.artifact, "method": self.target.how}
        return about | {"weights_bits": bits, "fp32_layers": list(self.kept)}


def int8_of(run: Run, artifact: str, backend: str) -> Int8:
    """Of the artefact of this name.

    Raises UsageError for one that is not of int8; RunError where its card does not say how it was made; MissingExtra
    without what quantizing takes; what `graph_of` raises.
    """
    graph = graph_of(run, artifact, backend)
    found = open_artifact(run, artifact)
    target = next((one for one in TARGETS.values() if one.runtime == graph.backend), None)
    if graph.precision != "int8" or target is None:
        raise UsageError(
            f"sub-networks are made in int8, and {found.path} is {printable(graph.precision)}",
            hint="leave --artifact out, or give one of resight export --int8",
        )
    check_installed(target.runtime)
    about = found.card.quantization
    bits, calibration = about.get("weights_bits"), about.get("calibration")
    pictures = calibration.get("pictures") if isinstance(calibration, dict) else None
    if (
        bits not in (7, 8)
        or type(pictures) is not int
        or not 1 <= pictures <= MOST_PICTURES
        or not isinstance(about.get("fp32_layers"), list)
        or about.get("method") != target.how
    ):
        raise RunError(
            f"the card of {found.path} does not say that it was quantized as here: expected weights_bits, fp32_layers, "
            f"calibration.pictures, at most {MOST_PICTURES:,}, and the method {target.how!r}",
            hint="make the artefact again: resight export RUN --int8",
        )
    return Int8(graph, target, found.card.fp32_layers, bits == 7, pictures, found.sha256, found.weights)


@dataclass(frozen=True, eq=False)
class Part:
    """A sub-network. fp32: a session over what it is before quantizing; ``backend`` itself where it is not quantized.
    apart: see `search.Candidate`.
    """

    graph: Graph
    backend: Backend
    fp32: Backend
    apart: float | None = None

    @property
    def sound(self) -> bool:
        """Whether its runtime computes it as another one does."""
        return self.apart is None or self.apart <= APART


@dataclass(frozen=True, eq=False)
class Parts:
    """Makes sub-networks. backend: of those in fp32. folder: for files that may go. int8: how they are quantized, with
    pictures of ``calibration``; None: they stay in fp32.
    """

    backend: str
    threads: int
    folder: Path
    int8: Int8 | None = None
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls, run: Run, samples: SampleSet, backend: str, threads: int, folder: Path, int8: Int8 | None = None
    ) -> Parts:
        """With the training pictures that calibrate, as `resight export --int8` draws them. Raises DataError."""
        if int8 is None:
            return cls(backend, threads, folder)
        calibration = calibration_pictures(run, samples, int8.pictures, run.card.seed, threads)
        return cls(backend, threads, folder, int8, calibration)

    def to_dict(self) -> dict[str, Any]:
        """How sub-networks were quantized, for the card. Only with int8."""
        assert self.int8 is not None
        assert self.calibration is not None
        seen = {"pictures": len(self.calibration.pixels), "fingerprint": self.calibration.fingerprint}
        return self.int8.to_dict() | {"calibration": seen}

    def made(
        self, name: str, data: bytes, dropped: list[str], *, head: Head | None = None, roughly: bool = False
    ) -> Part:
        """The network of ``data``, in fp32, without the blocks ``dropped``. name: of its files; none is made twice.
        head: its last layer, for maps, which int8 has not. roughly: calibrated on a few pictures, for its time alone.
        """
        if self.int8 is None:
            graph = Graph(name, self.backend, without(data, dropped), head=head)
            backend = asked(graph, self.folder, self.threads)
            return Part(graph, backend, backend)
        return self._quantized(self.int8, name, data, dropped, roughly)

    def _quantized(self, int8: Int8, name: str, data: bytes, dropped: list[str], roughly: bool) -> Part:
        import onnx

        assert self.calibration is not None
        whole = prepared(data, 1.0)  # routes have temperatures of their own
        plain = without(whole.SerializeToString(), dropped)
        pixels = self.calibration.pixels[: TRIED_CALIBRATION if roughly else None]
        place = Path(tempfile.mkdtemp(dir=self.folder))  # ranges of calibration are of one graph
        model = onnx.load_model_from_string(plain)
        shop = Workshop(int8.target, model, pixels, place, self.threads, int8.seven_bits)
        quantized = shop.quantize(int8.nodes(whole))
        files = int8.target.files(quantized)
        precision = "int8" if is_quantized(quantized) else "fp32"
        graph = Graph(name, int8.target.runtime, files[int8.target.graph], files.get(BIN), precision)
        backend = asked(graph, self.folder, self.threads)
        fp32 = asked(Graph(f"{name}-fp32", self.backend, plain), self.folder, self.threads)
        return Part(graph, backend, fp32, None if roughly else apart_of(shop, quantized, backend))
