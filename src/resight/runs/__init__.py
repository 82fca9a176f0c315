"""The Run: the one artefact that training makes and everything else opens."""

from resight.runs.card import Architecture, RunCard
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
    "Metrics",
    "Run",
    "RunCard",
    "check_free",
]
