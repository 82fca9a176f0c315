"""``openvino``: OpenVINO's own format (IR), which loads without conversion. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from resight.exporting.about import about, said_by_ir
from resight.exporting.targets.written import Written, as_predicted
from resight.inference.openvino import load_openvino, read_onnx
from resight.runs import ONNX, Artifact, Run

XML = "model.xml"
answer = as_predicted


def said(artifact: Artifact) -> dict[str, str]:
    return said_by_ir(artifact.graph)


def write(run: Run, folder: Path) -> Written:
    """``model.xml`` and ``model.bin``, weights in fp32."""
    model = read_onnx(run.file(ONNX), run.read(ONNX))
    for name, value in about(run.card).items():
        model.set_rt_info(value, name.split("."))
    load_openvino().save_model(model, folder / XML, compress_to_fp16=False)
    return Written(XML, ["weights in fp32; class names and geometry in rt_info"], ["openvino"])
