"""Answers without PyTorch: a Run's ``model.onnx``, asked for one picture or for thousands."""

from __future__ import annotations

from resight.inference.answers import Answers, Outputs, bad_files
from resight.inference.backend import (
    ADAPTIVE,
    AUTO,
    BACKENDS,
    OUTPUTS,
    Backend,
    available_cpus,
    check_backend,
    installed_backends,
    open_backend,
)
from resight.inference.choose import Choice, Speed
from resight.inference.columns import BatchPredictor
from resight.inference.onnxruntime import OnnxRuntime, load_onnxruntime
from resight.inference.pipeline import batched, map_ordered
from resight.inference.prediction import Prediction, Predictions, Unlikeness
from resight.inference.predictor import BATCH, Predictor
from resight.inference.sharing import UNLIKE
from resight.inference.sources import Source
from resight.inference.tasks import only_single
from resight.inference.unknown import Reference, read_reference, unit
from resight.inference.writers import FORMATS, csv_row, dump_json, escape_cell, plain, save, send, unescape_cell, write

__all__ = [
    "ADAPTIVE",
    "AUTO",
    "BACKENDS",
    "BATCH",
    "FORMATS",
    "OUTPUTS",
    "UNLIKE",
    "Answers",
    "Backend",
    "BatchPredictor",
    "Choice",
    "OnnxRuntime",
    "Outputs",
    "Prediction",
    "Predictions",
    "Predictor",
    "Reference",
    "Source",
    "Speed",
    "Unlikeness",
    "available_cpus",
    "bad_files",
    "batched",
    "check_backend",
    "csv_row",
    "dump_json",
    "escape_cell",
    "installed_backends",
    "load_onnxruntime",
    "map_ordered",
    "only_single",
    "open_backend",
    "plain",
    "read_reference",
    "save",
    "send",
    "unescape_cell",
    "unit",
    "write",
]
