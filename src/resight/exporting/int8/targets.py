"""What int8 is made for: one line of ``TARGETS`` each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from resight.exporting.about import said_by_ir, said_by_onnx
from resight.exporting.int8.graph import Layer, Proto, layers_of
from resight.exporting.int8.ir import XML, to_ir
from resight.exporting.int8.methods import by_nncf, by_onnxruntime
from resight.inference.backend import Backend, Pixels, open_backend

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Target:
    """artifact: what it is stored as. runtime: the backend that answers. graph: the file that it opens. quantizer, how:
    in words. plain: whether additions and pools are quantized, too. said: what the graph's file says of itself.
    """

    artifact: str
    runtime: str
    graph: str
    quantizer: str
    how: str
    plain: bool
    files: Callable[[Proto], dict[str, bytes]]
    said: Callable[[Path], dict[str, str]]

    def layers(self, model: Proto) -> tuple[Layer, ...]:
        return layers_of(model, plain=self.plain)


TARGETS = {
    "openvino": Target(
        "openvino-int8",
        "openvino",
        XML,
        "nncf",
        "NNCF, preset MIXED, weights int8 per channel, activations minmax, no bias correction",
        True,
        to_ir,
        said_by_ir,
    ),
    "onnx": Target(
        "onnx-int8",
        "onnxruntime",
        GRAPH,
        "onnxruntime",
        "ONNX Runtime, static QDQ, weights int8 per channel, activations uint8, minmax",
        False,
        lambda model: {GRAPH: model.SerializeToString()},
        said_by_onnx,
    ),
}


@dataclass
class Workshop:
    """Makes candidates for one target from one prepared graph, and opens them. folder: for files that may go."""

    target: Target
    model: Proto
    pixels: Pixels
    folder: Path
    threads: int
    seven_bits: bool

    def quantize(self, keep: Collection[str], pictures: int | None = None) -> Proto:
        """With these nodes in fp32; calibrated on the first ``pictures``, default all."""
        if self.target.quantizer == "nncf":
            return by_nncf(self.model, self.pixels[:pictures], keep, seven_bits=self.seven_bits)
        ranges = self.folder / "ranges.json"  # of all pictures: reading them costs nothing
        return by_onnxruntime(self.model, self.pixels, keep, seven_bits=self.seven_bits, ranges=ranges)

    def open(self, files: dict[str, bytes]) -> Backend:
        """A session of the target's runtime over these very bytes."""
        return self._open(self.target.runtime, self.target.graph, files)

    def open_onnx(self, data: bytes) -> Backend:
        """The same graph in ONNX Runtime, whatever the target."""
        return self._open("onnxruntime", GRAPH, {GRAPH: data})

    def _open(self, runtime: str, graph: str, files: Mapping[str, bytes]) -> Backend:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            for name, data in files.items():
                (Path(place) / name).write_bytes(data)
            return open_backend(runtime, Path(place) / graph, self.threads)
