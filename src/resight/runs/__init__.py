"""The Run: the one artefact that training makes and everything else opens."""

from resight.runs.card import Architecture, RunCard, Threshold
from resight.runs.crossval import CrossValidation, is_crossval, out_of_fold
from resight.runs.predictions import Stored, stored
from resight.runs.run import (
    ADVICE,
    CARD,
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    ONNX,
    PREDICTIONS,
    REFERENCE,
    REPORT,
    SPLIT,
    WEIGHTS,
    Metrics,
    Run,
    check_free,
)

__all__ = [
    "ADVICE",
    "CARD",
    "CHECKPOINTS",
    "CONFIG",
    "HISTORY",
    "ONNX",
    "PREDICTIONS",
    "REFERENCE",
    "REPORT",
    "SPLIT",
    "WEIGHTS",
    "Architecture",
    "CrossValidation",
    "Metrics",
    "Run",
    "RunCard",
    "Stored",
    "Threshold",
    "check_free",
    "is_crossval",
    "out_of_fold",
    "stored",
]
