"""What a Run can be exported to: one module a target, one line in ``TARGETS``; the parity gate then runs by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resight.exporting.gate import Answer
from resight.exporting.targets import docker, onnx, openvino, program, triton
from resight.exporting.targets.written import Written
from resight.runs import Artifact, Run


@dataclass(frozen=True)
class Target:
    """write: makes the artefact's files in an empty folder. answer: how the gate asks it, with so many threads. said:
    what its own file says of itself, see ``resight.exporting.about``. what: in a few words. backend: which of
    ``resight.inference.BACKENDS`` answers with it here; None: it is for another program.
    """

    write: Callable[[Run, Path], Written]
    answer: Callable[[Run, Artifact, int], Answer]
    said: Callable[[Artifact], dict[str, str]]
    what: str
    backend: str | None = None


TARGETS: dict[str, Target] = {
    "onnx": Target(onnx.write, onnx.answer, onnx.said, "one ONNX file that says what it is", "onnxruntime"),
    "openvino": Target(openvino.write, openvino.answer, openvino.said, "OpenVINO's own format, fp32", "openvino"),
    "program": Target(program.write, program.answer, program.said, "a program of torch.export"),
    "triton": Target(triton.write, triton.answer, triton.said, "a model repository for a Triton server"),
    "docker": Target(docker.write, docker.answer, docker.said, "a context that builds a server without PyTorch"),
}

__all__ = ["TARGETS", "Target", "Written"]
