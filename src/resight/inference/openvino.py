"""OpenVINO on the CPU. An extra: ``pip install 'resight[openvino]'``."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from resight.errors import RunError
from resight.inference.backend import (
    ATTENTION,
    INPUT,
    OUTPUTS,
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
from resight.inference.external import has_external_data
from resight.inference.ir import check_ir

_TELEMETRY = "openvino_telemetry"
_LARGE = "features"


def load_openvino() -> ModuleType:
    """Import openvino with its telemetry off: the only place where Resight imports it.

    ``import openvino`` stores an id in the home folder and sends an event to Google Analytics through the package
    openvino_telemetry, unless that cannot be imported. So it is made unimportable, for this process.
    """
    if _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    import openvino

    module: ModuleType = openvino
    return module


@cache
def core() -> Any:
    """OpenVINO's ``Core``: one for the process, never given up.

    Each Core's CPU plugin sets an alternative stack for signals and puts the earlier one back when it ends. Of two that
    end in the order in which they began, the stack that is left is freed memory, and the next signal ends the process
    (openvino 2026.4): a server that opened its Run anew would fall at SIGTERM.
    """
    return load_openvino().Core()


class OpenVino:
    """OpenVINO on the CPU; its arguments, guarantees and errors are those of ``OnnxRuntime``.

    fp32 graphs are computed in fp32, also where the processor has a smaller format; graphs with quantized
    weights in int8. path: an ONNX file, or the ``.xml`` of OpenVINO's own format (IR), whose numbers lie beside it in a
    ``.bin`` that must hash to ``weights``.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        *,
        sha256: str | None = None,
        weights: str | None = None,
        callers: int | None = 1,
    ) -> None:
        self.path = path
        self.threads = thread_count(threads)
        self.callers = caller_count(callers, self.threads)
        data = read_graph(path, sha256)
        if path.suffix == ".xml" and sha256 is not None and weights is None:
            raise RunError(f"{path} has no hash of the numbers beside it, so they are not used", hint="export it again")
        self._model = _read_ir(path, data, weights) if path.suffix == ".xml" else read_onnx(path, data)
        self._compiled: dict[bool, _Compiled] = {}
        self._lock = Lock()
        self.shape: Shape = tuple(
            None if side.is_dynamic else side.get_length() for side in self._model.inputs[0].partial_shape
        )
        if None in self.shape[1:]:  # OpenVINO would compute with any size, also with one that the weights do not fit
            raise RunError(f"{path} takes pixels of an open size {self.shape[1:]}; expected (N, S, S, C), only N open")

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`resight.inference.Backend`."""
        check_request(self.shape, pixels, outputs)
        try:
            return self._compiled_for(outputs).answer(pixels, outputs)
        except Exception as error:
            raise failed(self.path, error) from error

    def _compiled_for(self, outputs: Sequence[str]) -> _Compiled:
        """All outputs lie on one way to the probabilities and cost nothing but their copies; of these only that of
        the features counts. So there are two forms, made when first asked for: with the features, and without.
        """
        large = _LARGE in outputs
        with self._lock:
            if large not in self._compiled:
                self._compiled[large] = self._compile(large)
        return self._compiled[large]

    def _compile(self, large: bool) -> _Compiled:
        model = self._model.clone()
        for result in list(model.get_results()):
            if not _names(result.input_value(0)) & ({*OUTPUTS, ATTENTION} - (set() if large else {_LARGE})):
                model.remove_result(result)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.callers,
            # A thread bound to one processor waits there while others are free; the machine may not be ours alone
            "ENABLE_CPU_PINNING": False,
        }
        return _Compiled(core().compile_model(model, "CPU", options))


class _Compiled:
    """A compiled graph and its requests: one for each thread that asks at the same time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._outputs = {name: output for output in compiled.outputs for name in output.get_names()}
        self._idle: deque[Any] = deque()

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        found = request.infer({INPUT: pixels}, share_inputs=True, share_outputs=False)
        self._idle.append(request)
        return [found[self._outputs[name]] for name in outputs]


def read_onnx(path: Path, data: bytes) -> Any:
    """The graph, from ONNX alone. Raises RunError."""
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise damaged(path, "openvino", error) from error
    if external:
        raise outside(path)
    load_openvino()
    from openvino.frontend import FrontEndManager

    try:
        frontend = FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(io.BytesIO(data)))
    except Exception as error:
        raise damaged(path, "openvino", error) from error
    return _checked(path, model)


def _read_ir(path: Path, data: bytes, weights: str | None) -> Any:
    """The graph, from OpenVINO's own format alone: its XML, and the numbers in the file of the same name that ends in
    ``.bin``. The XML says where in these bytes a tensor lies, and cannot name another file. Raises RunError.
    """
    try:
        check_ir(data)
    except ValueError as error:
        raise damaged(path, "openvino", error) from error
    numbers = read_graph(path.with_suffix(".bin"), weights)
    try:
        model = core().read_model(model=data, weights=numbers)
    except Exception as error:
        raise damaged(path, "openvino", error) from error
    return _checked(path, model)


def _checked(path: Path, model: Any) -> Any:
    try:
        found = [(", ".join(_names(node)), _type(node), _rank(node)) for node in model.inputs]
        outputs = {name: _type(node) for node in model.outputs for name in _names(node)}
    except Exception as error:
        raise damaged(path, "openvino", error) from error
    check_contract(path, found, outputs)
    return model


def _names(node: Any) -> set[str]:
    names: set[str] = node.get_names()
    return names


def _type(node: Any) -> str:
    return str(node.get_element_type().to_dtype())


def _rank(node: Any) -> int:
    rank = node.get_partial_shape().rank
    return -1 if rank.is_dynamic else int(rank.get_length())
