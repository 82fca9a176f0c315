"""What computes the answer: a session over a Run's ``model.onnx``.

The graph's contract: ``pixels`` uint8 (N, S, S, C) in; ``probabilities`` (N, K), ``logits`` (N, K),
``embedding`` (N, D) and ``features`` (N, D, h, w) out, all float32. The logits are the network's own; the
probabilities are softmax(logits / temperature).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError, UsageError
from resight.images import printable

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

INPUT = "pixels"
OUTPUTS = ("probabilities", "logits", "embedding", "features")


class Backend(Protocol):
    """Anything that answers the graph's contract. Safe to call from several threads."""

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """uint8 (N, S, S, C), N ≥ 1 → the outputs asked for, in that order; only these are computed."""
        ...


def available_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    what the file must hash to, if known. The file is read once and hashed and loaded from the same bytes,
    so nobody can exchange it in between; and a graph that keeps its weights in other files is refused,
    wherever these are.

    Raises RunError for a file that is missing, changed, no valid graph, or not of the contract; UsageError
    for a number of threads below 1.
    """

    def __init__(self, path: Path, threads: int | None = None, *, sha256: str | None = None) -> None:
        if threads is not None and (type(threads) is not int or threads < 1):
            raise UsageError(f"threads is {threads!r}; expected a whole number, 1 or more")
        self.path = path
        self.threads = threads or available_cpus()
        self._session = _session(path, _read(path, sha256), self.threads)
        self._check_contract()

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`Backend`. Raises UsageError for unknown outputs or pixels that do not fit the graph,
        RunError when
        the graph fails."""
        if unknown := [name for name in outputs if name not in OUTPUTS]:
            raise UsageError(f"unknown outputs: {', '.join(unknown)}; expected some of {', '.join(OUTPUTS)}")
        fits = all(
            not isinstance(want, int) or want == got for want, got in zip(self.shape, pixels.shape, strict=False)
        )
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or 0 in pixels.shape or not fits:
            raise UsageError(f"expected pixels of uint8 {_show(self.shape)}, found {pixels.dtype} {pixels.shape}")
        try:
            found: list[Floats] = self._session.run(list(outputs), {INPUT: pixels})
        except Exception as error:  # its exceptions have no base class of their own
            raise RunError(f"{self.path} cannot compute an answer: {printable(str(error))}") from error
        return found

    def _check_contract(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.shape: tuple[int | str | None, ...] = tuple(inputs[0].shape) if inputs else ()
        found = [(node.name, node.type, len(node.shape)) for node in inputs]
        if found != [(INPUT, "tensor(uint8)", 4)]:
            raise RunError(f"{self.path} takes {found}; expected only '{INPUT}', uint8 (N, S, S, C)")
        types = {node.name: node.type for node in outputs}
        if wrong := [name for name in OUTPUTS if types.get(name) != "tensor(float)"]:
            raise RunError(f"{self.path} lacks the outputs {', '.join(wrong)} as float32; it has {types}")


BACKENDS: dict[str, Callable[..., Backend]] = {"onnxruntime": OnnxRuntime}


def open_backend(name: str, path: Path, threads: int | None = None, *, sha256: str | None = None) -> Backend:
    """Open ``path`` with the backend of this name. Raises UsageError for an unknown one, and what it
    raises.
    """
    if name not in BACKENDS:
        raise UsageError(f"there is no backend {printable(name)!r}; expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name](path, threads, sha256=sha256)


def _read(path: Path, sha256: str | None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{path} was changed after the Run was sealed", hint="restore the file from a copy")
    return data


def _session(path: Path, data: bytes, threads: int) -> Any:
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed besides
    # Threads that spin while they wait take the processors from those that decode: 2.3 s instead of 1.4 s for
    # 37 pictures through a resnet18 in batches of 32, on 2 shared cores of an AMD EPYC, onnxruntime 1.32, n=1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # No file can lie below the null device: weights outside of model.onnx cannot be found, wherever we run.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> RunError:
    detail = str(error)
    if "external" in detail.lower():
        return RunError(
            f"{path} refers to data outside of itself, which is refused",
            hint="a Run's model.onnx is one file: restore it, or export it again without external data",
        )
    return RunError(
        f"{path} is damaged, or not a graph that this onnxruntime can load: {printable(detail)}",
        hint="restore the file from a copy, or export it again",
    )


def _show(shape: Sequence[int | str | None]) -> str:
    return "(" + ", ".join("N" if side is None else str(side) for side in shape) + ")"
