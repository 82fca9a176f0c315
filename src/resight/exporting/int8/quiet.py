"""The quantizers' packages, imported and run so that they send, store, print and import nothing besides."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from resight.errors import MissingExtra
from resight.inference.backend import BACKENDS
from resight.inference.onnxruntime import load_onnxruntime
from resight.inference.openvino import load_openvino

NEEDED = {"onnxruntime": ("onnx", "sympy"), "openvino": ("openvino", "nncf", "onnx")}
"""By the runtime that answers: the packages that quantizing for it takes."""
_TORCH = "torch"


def check_installed(runtime: str) -> None:
    """Raises MissingExtra unless what quantizing for this runtime takes is there. Imports none of it."""
    from importlib.util import find_spec

    if not BACKENDS[runtime].installed or any(find_spec(package) is None for package in NEEDED[runtime]):
        raise MissingExtra(f"int8 for {runtime}", "int8")


@contextmanager
def quietly(*, openvino: bool) -> Iterator[None]:
    """Quantizers are imported and called within.

    Telemetry of ONNX Runtime, and of OpenVINO and NNCF, is off before either is imported. NNCF imports PyTorch where it
    is installed, only to ask whether a network is one of PyTorch's: that takes seconds and hundreds of megabytes, so it
    does not find it here. Progress bars and advice for programmers go nowhere; what goes wrong is raised.
    """
    load_onnxruntime()
    if openvino:
        load_openvino()
    hidden = openvino and _TORCH not in sys.modules
    if hidden:
        sys.modules[_TORCH] = None  # type: ignore[assignment]
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if hidden:
            del sys.modules[_TORCH]
