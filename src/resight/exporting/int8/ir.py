"""OpenVINO's IR of a quantized graph, as bytes, and a backend that answers with these very bytes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from resight.exporting.int8.graph import Proto
from resight.inference.backend import INPUT, OUTPUTS, Floats, Pixels, check_request, thread_count
from resight.inference.openvino import load_openvino

XML, BIN = "model.xml", "model.bin"
_LARGE = "features"


def to_ir(model: Proto) -> dict[str, bytes]:
    """``model.xml`` and ``model.bin``; weights in int8 where the graph has them so, all else in float32."""
    openvino = load_openvino()
    converted = openvino.Core().read_model(io.BytesIO(model.SerializeToString()))
    with tempfile.TemporaryDirectory() as temporary:
        openvino.save_model(converted, Path(temporary) / XML, compress_to_fp16=False)
        return {name: (Path(temporary) / name).read_bytes() for name in (XML, BIN)}


class Ir:
    """A `resight.inference.Backend` over an IR in memory; compiled as `resight.inference.openvino` compiles."""

    def __init__(self, files: dict[str, bytes], threads: int | None = None) -> None:
        openvino = load_openvino()
        self._core = openvino.Core()
        self._model = self._core.read_model(files[XML], files[BIN])
        self._threads = thread_count(threads)
        self._compiled: dict[bool, Any] = {}
        self._lock = Lock()
        shape = self._model.inputs[0].partial_shape
        self.shape = tuple(None if side.is_dynamic else side.get_length() for side in shape)

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`resight.inference.Backend`."""
        check_request(self.shape, pixels, outputs)
        compiled = self._compiled_for(_LARGE in outputs)
        found = compiled.create_infer_request().infer({INPUT: pixels}, share_inputs=True, share_outputs=False)
        by_name = {name: output for output in compiled.outputs for name in output.get_names()}
        return [found[by_name[name]] for name in outputs]

    def _compiled_for(self, large: bool) -> Any:
        with self._lock:
            if large not in self._compiled:
                model = self._model.clone()
                wanted = {name for name in OUTPUTS if large or name != _LARGE}
                for result in list(model.get_results()):
                    if not result.input_value(0).get_names() & wanted:
                        model.remove_result(result)
                options = {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": self._threads,
                    "NUM_STREAMS": 1,
                    "ENABLE_CPU_PINNING": False,
                }
                self._compiled[large] = self._core.compile_model(model, "CPU", options)
            return self._compiled[large]
