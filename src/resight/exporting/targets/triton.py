"""``triton``: a model repository for NVIDIA's Triton Inference Server, when one machine is not enough."""

from __future__ import annotations

import re
from pathlib import Path

from resight.exporting.about import ABOUT, about, to_file
from resight.exporting.gate import Answer
from resight.exporting.targets import onnx
from resight.exporting.targets.written import Written, as_graph
from resight.images import printable
from resight.runs import ONNX, Artifact, Run

CONFIG, LABELS, VERSION = "config.pbtxt", "labels.txt", "1"
LARGEST, PREFERRED, DELAY = 64, (8, 16, 32), 2000
"""Pictures in a batch at most, preferred sizes, and how long a batch may wait for more, in microseconds."""
_CONFIG = """\
# Made by resight export. Pixels: uint8 squares of {size} × {size}, {channels} channels; geometry: resight.json.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {largest}
input [
  {{ name: "pixels", data_type: TYPE_UINT8, dims: [ {size}, {size}, {channels} ] }}
]
output [
  {{ name: "probabilities", data_type: TYPE_FP32, dims: [ {classes} ], label_filename: "{labels}" }},
  {{ name: "logits", data_type: TYPE_FP32, dims: [ {classes} ], label_filename: "{labels}" }},
  {{ name: "embedding", data_type: TYPE_FP32, dims: [ {width} ] }}
]
dynamic_batching {{ preferred_batch_size: [ {preferred} ], max_queue_delay_microseconds: {delay} }}
instance_group [ {{ count: 1, kind: KIND_AUTO }} ]
"""


def write(run: Run, folder: Path) -> Written:
    """``NAME/config.pbtxt``, ``NAME/labels.txt`` and ``NAME/1/model.onnx``; NAME is the Run's, as far as it can be."""
    card = run.card
    name = re.sub(r"[^A-Za-z0-9_-]", "_", run.path.resolve().name) or "resight"
    model = folder / name / VERSION
    model.mkdir(parents=True)
    onnx.write(run, model)
    lines = [printable(label, 2000) for label in card.classes]  # one line each, whatever the names hold
    (folder / name / LABELS).write_text("\n".join(lines) + "\n", "utf-8")
    (folder / name / ABOUT).write_text(to_file(about(card)), "utf-8")
    text = _CONFIG.format(
        name=name,
        size=card.geometry.size,
        channels=card.channels,
        classes=len(card.classes),
        width=_width(model / ONNX),
        labels=LABELS,
        largest=LARGEST,
        preferred=", ".join(map(str, PREFERRED)),
        delay=DELAY,
    )
    (folder / name / CONFIG).write_text(text, "utf-8")
    notes = ["made and checked for form; it was not run in a Triton server", f"put {name}/ into the model repository"]
    return Written(f"{name}/{VERSION}/{ONNX}", notes, ["onnx", "onnxruntime"])


def said(artifact: Artifact) -> dict[str, str]:
    return onnx.said(artifact)


def answer(_: Run, artifact: Artifact, threads: int) -> Answer:
    return as_graph(artifact.graph, artifact.sha256, threads)


def _width(graph: Path) -> int:
    """Numbers of an embedding."""
    import onnx as package

    outputs = {node.name: node for node in package.load(graph, load_external_data=False).graph.output}
    return int(outputs["embedding"].type.tensor_type.shape.dim[1].dim_value)
