"""Answers without PyTorch: a Run's ``model.onnx``, asked for one picture or for thousands."""

from __future__ import annotations

from resight.inference.backend import (
    BACKENDS,
    OUTPUTS,
    Backend,
    OnnxRuntime,
    available_cpus,
    load_onnxruntime,
)
from resight.inference.pipeline import batched, map_ordered
from resight.inference.prediction import Prediction, Predictions
from resight.inference.predictor import Answers, Outputs, Predictor, Source, bad_files
from resight.inference.writers import FORMATS, csv_row, dump_json, escape_cell, save, send, unescape_cell, write

__all__ = [
    "BACKENDS",
    "FORMATS",
    "OUTPUTS",
    "Answers",
    "Backend",
    "OnnxRuntime",
    "Outputs",
    "Prediction",
    "Predictions",
    "Predictor",
    "Source",
    "available_cpus",
    "bad_files",
    "batched",
    "csv_row",
    "dump_json",
    "escape_cell",
    "load_onnxruntime",
    "map_ordered",
    "save",
    "send",
    "unescape_cell",
    "write",
]
