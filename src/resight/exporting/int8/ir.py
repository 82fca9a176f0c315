"""OpenVINO's IR of a quantized graph, as bytes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from resight.exporting.int8.graph import Proto
from resight.inference.openvino import core, load_openvino

XML, BIN = "model.xml", "model.bin"


def to_ir(model: Proto) -> dict[str, bytes]:
    """``model.xml`` and ``model.bin``; weights in int8 where the graph has them so, all else in float32. The graph's
    metadata is in ``rt_info``.
    """
    converted = core().read_model(io.BytesIO(model.SerializeToString()))
    for entry in model.metadata_props:
        converted.set_rt_info(entry.value, entry.key.split("."))
    return saved(converted)


def saved(model: Any) -> dict[str, bytes]:
    """The two files of an ``openvino.Model``, its numbers as they are."""
    with tempfile.TemporaryDirectory() as temporary:
        load_openvino().save_model(model, Path(temporary) / XML, compress_to_fp16=False)
        return {name: (Path(temporary) / name).read_bytes() for name in (XML, BIN)}
