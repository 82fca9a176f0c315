"""What computes the answer: a session over a Run's ``model.onnx``. What all backends share, and their table.

The graph's contract: ``pixels`` uint8 (N, S, S, C) in; ``probabilities`` (N, K), ``logits`` (N, K),
``embedding`` (N, D) and ``features`` (N, D, h, w) out, all float32. The logits are the network's own; the
probabilities are softmax(logits / temperature). Of a Run that cuts pictures into tiles they are those of N tiles, and
``attention`` (N,) says how much each counts in its picture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resight.errors import MissingExtra, RunError, UsageError
from resight.images import printable

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shape = tuple[int | str | None, ...]

INPUT = "pixels"
OUTPUTS = ("probabilities", "logits", "embedding", "features")
DESCRIBING = ("embedding", "features")
ATTENTION = "attention"
ROUTE = "route"
"""What a backend over several graphs gives besides: see ``Adaptive``."""
AUTO, ADAPTIVE, PATCHES = "auto", "adaptive", "patches"


class Backend(Protocol):
    """Anything that answers the graph's contract. Safe to call from several threads."""

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """uint8 (N, S, S, C), N ≥ 1 → the outputs asked for, in that order; only what these need is computed.

        Raises UsageError for unknown outputs or pixels that do not fit the graph, RunError when it fails.
        """
        ...


@dataclass(frozen=True)
class Kind:
    """One line of ``BACKENDS``: the class, its module here, the package that it needs, and the extra that brings it.

    The class is called with (path, threads, sha256=…, callers=…) and imports the package then, not before.
    """

    module: str
    name: str
    package: str
    extra: str | None = None

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Of the package, whichever distribution brings it (``onnxruntime-gpu`` brings onnxruntime); ``unknown`` where
        none says that it does. Imports nothing of it.
        """
        from importlib.metadata import PackageNotFoundError, packages_distributions, version  # takes 20 ms, few need it

        with suppress(PackageNotFoundError):
            return version(self.package) or "unknown"
        for distribution in packages_distributions().get(self.package, ()):  # reads what all of them bring: slow
            with suppress(PackageNotFoundError):
                return f"{version(distribution)} ({distribution})"
        return "unknown"


BACKENDS: dict[str, Kind] = {
    "onnxruntime": Kind("resight.inference.onnxruntime", "OnnxRuntime", "onnxruntime"),
    "openvino": Kind("resight.inference.openvino", "OpenVino", "openvino", extra="openvino"),
}
PLANS = {
    ADAPTIVE: Kind("resight.inference.adaptive", "Adaptive", "numpy"),
    PATCHES: Kind("resight.inference.patches", "Patches", "numpy"),
}
"""No lines of the table: they open only what `resight adapt` made, and nobody chooses them by their names."""


def installed_backends() -> list[str]:
    """Names of the backends whose packages are there, in the order of ``BACKENDS``. Imports none of them."""
    return [name for name, kind in BACKENDS.items() if kind.installed]


def check_backend(name: str) -> None:
    """Raises UsageError for a name that is neither ``auto`` nor in ``BACKENDS``, MissingExtra for one that is not
    installed.
    """
    if name == AUTO:
        return
    if name not in BACKENDS:
        raise UsageError(f"there is no backend {printable(name)!r}; expected one of {', '.join((AUTO, *BACKENDS))}")
    kind = BACKENDS[name]
    if kind.extra is not None and not kind.installed:
        raise MissingExtra(f"the backend {name}", kind.extra)


def open_backend(
    name: str,
    path: Path,
    threads: int | None = None,
    *,
    sha256: str | None = None,
    weights: str | None = None,
    callers: int = 1,
) -> Backend:
    """Open ``path`` with the backend of this name, not ``auto``, or a plan of several graphs with one of ``PLANS``; the
    arguments are those of ``OnnxRuntime``. weights: what the second file of a graph of two must hash to, see
    ``OpenVino``.

    Raises what ``check_backend`` and the backend raise.
    """
    if name == AUTO:
        raise UsageError("a backend must be chosen before it is opened")
    if name not in PLANS:
        check_backend(name)
    kind = PLANS[name] if name in PLANS else BACKENDS[name]
    more = {} if weights is None else {"weights": weights}
    made = getattr(import_module(kind.module), kind.name)
    backend: Backend = made(path, threads, sha256=sha256, callers=callers, **more)
    return backend


def available_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """``threads``, by default all processors that this process may use. Raises UsageError below 1."""
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UsageError(f"threads is {threads!r}; expected a whole number, 1 or more")
    return threads or available_cpus()


def caller_count(callers: int | None, threads: int) -> int:
    """``callers``, by default ``threads``, and never more. Raises UsageError below 1."""
    if callers is not None and (type(callers) is not int or callers < 1):
        raise UsageError(f"callers is {callers!r}; expected a whole number, 1 or more")
    return min(callers or threads, threads)


def read_graph(path: Path, sha256: str | None) -> bytes:
    """The file's bytes. Raises RunError when it is no regular file or cannot be read, or does not hash to ``sha256`` if
    that is known.
    """
    if path.exists() and not path.is_file():
        raise RunError(f"{path} is not a regular file", hint="restore it from a copy")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{path} was changed after the Run was sealed", hint="restore the file from a copy")
    return data


def check_contract(path: Path, inputs: Sequence[tuple[str, str, int]], outputs: Mapping[str, str]) -> None:
    """Raises RunError unless the graph takes only ``pixels`` and gives all of ``OUTPUTS``, or, of a network without
    classes, all of ``DESCRIBING`` and neither probabilities nor logits.

    inputs: (name, type, number of dimensions) of each; outputs: types by name. Types are NumPy's names.
    """
    if list(inputs) != [(INPUT, "uint8", 4)]:
        raise RunError(f"{path} takes {list(inputs)}; expected only '{INPUT}', uint8 (N, S, S, C)")
    needed = OUTPUTS if {"probabilities", "logits"} & outputs.keys() else DESCRIBING
    if wrong := [name for name in needed if outputs.get(name) != "float32"]:
        raise RunError(f"{path} lacks the outputs {', '.join(wrong)} as float32; it has {dict(outputs)}")


def check_request(shape: Shape, pixels: Pixels, outputs: Sequence[str]) -> None:
    """Raises UsageError for unknown outputs, or pixels that do not fit a graph that takes ``shape``."""
    if unknown := [name for name in outputs if name not in (*OUTPUTS, ATTENTION)]:
        raise UsageError(f"unknown outputs: {', '.join(unknown)}; expected some of {', '.join(OUTPUTS)}")
    fits = all(not isinstance(want, int) or want == got for want, got in zip(shape, pixels.shape, strict=False))
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or 0 in pixels.shape or not fits:
        raise UsageError(f"expected pixels of uint8 {_show(shape)}, found {pixels.dtype} {pixels.shape}")


def failed(path: Path, error: Exception) -> RunError:
    """For what a runtime raises at work; its exceptions have no base class of their own."""
    return RunError(f"{path} cannot compute an answer: {printable(str(error))}")


def damaged(path: Path, package: str, error: Exception) -> RunError:
    """For what a runtime raises when it loads a graph."""
    return RunError(
        f"{path} is damaged, or not a graph that this {package} can load: {printable(str(error))}",
        hint="restore the file from a copy, or export it again",
    )


def outside(path: Path) -> RunError:
    """For a graph that keeps data in other files."""
    return RunError(
        f"{path} refers to data outside of itself, which is refused",
        hint="a Run's model.onnx is one file: restore it, or export it again without external data",
    )


def _show(shape: Shape) -> str:
    return "(" + ", ".join("N" if side is None else str(side) for side in shape) + ")"
