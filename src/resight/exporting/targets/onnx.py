"""``onnx``: the Run's graph, with class names, geometry and versions inside. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from resight.exporting.about import about, said_by_onnx
from resight.exporting.targets.written import Written, as_predicted
from resight.runs import ONNX, Artifact, Run
from resight.runs.storage import write_atomic

answer = as_predicted


def said(artifact: Artifact) -> dict[str, str]:
    return said_by_onnx(artifact.graph)


def write(run: Run, folder: Path) -> Written:
    """Raises RunError for a graph that was changed."""
    import onnx

    model = onnx.load_from_string(run.read(ONNX))
    onnx.helper.set_model_props(model, about(run.card))
    onnx.checker.check_model(model, full_check=True)
    write_atomic(folder / ONNX, model.SerializeToString())
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return Written(
        ONNX, [f"opset {opset}, IR version {model.ir_version}, any batch, one file"], ["onnx", "onnxruntime"]
    )
