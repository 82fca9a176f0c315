"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from resight.errors import RunError
from resight.inference.backend import (
    INPUT,
    Floats,
    Pixels,
    Shape,
    caller_count,
    check_contract,
    check_request,
    damaged,
    failed,
    outside,
    read_graph,
    thread_count,
)

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off: the only place where Resight imports it.

    Since 1.29 the packages for Linux and macOS write a device id to the home folder and send events; on
    these systems only ``ORT_DISABLE_TELEMETRY``, set before the first import, prevents both.
    ``disable_telemetry_events`` is what works on Windows.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    module: ModuleType = onnxruntime
    module.disable_telemetry_events()
    return module


class OnnxRuntime:
    """ONNX Runtime on the CPU.

    path: the model.onnx. threads: for computing, default: all processors that this process may use. sha256:
    what the file must hash to, if known. callers: how many threads will ask at the same time; each has
    ``threads`` / ``callers`` to compute with. 1 is quickest for one question, as many as ``threads`` give the most
    answers a second. The file is read once and hashed and loaded from the same bytes, so nobody can exchange it in
    between; and a graph that keeps its weights in other files is refused, wherever these are.

    Raises RunError for a file that is missing, changed, no valid graph, or not of the contract; UsageError
    for a number of threads or callers below 1.
    """

    def __init__(
        self, path: Path, threads: int | None = None, *, sha256: str | None = None, callers: int | None = 1
    ) -> None:
        self.path = path
        self.threads = thread_count(threads)
        self.callers = caller_count(callers, self.threads)
        self._session = _session(path, read_graph(path, sha256), self.threads // self.callers)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.shape: Shape = tuple(inputs[0].shape) if inputs else ()
        found = [(node.name, _TYPES.get(node.type, node.type), len(node.shape)) for node in inputs]
        check_contract(path, found, {node.name: _TYPES.get(node.type, node.type) for node in outputs})

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`resight.inference.Backend`."""
        check_request(self.shape, pixels, outputs)
        try:
            found: list[Floats] = self._session.run(list(outputs), {INPUT: pixels})
        except Exception as error:
            raise failed(self.path, error) from error
        return found


def _session(path: Path, data: bytes, threads: int) -> Any:
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed besides
    # Threads that spin while they wait take the processors from those that decode: 2.3 s instead of 1.4 s for
    # 37 pictures through a resnet18 in batches of 32, on 2 shared cores of an AMD EPYC, onnxruntime 1.32, n=1. Single
    # pictures, nothing decoded, this process first in line on a machine with more work than cores: spinning gave 0.63
    # (resnet18, n=60) and 0.68 (resnet50, n=25) times the rate, spinning until the answer is there 0.51 and 0.58
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # No file can lie below the null device: weights outside of model.onnx cannot be found, wherever we run.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> RunError:
    return outside(path) if "external" in str(error).lower() else damaged(path, "onnxruntime", error)
