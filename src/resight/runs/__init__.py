"""The Run: the one artefact that training makes and everything else opens."""

from resight.runs.artifact_card import ArtifactCard
from resight.runs.artifacts import (
    ARTIFACT_CARD,
    ARTIFACTS,
    Artifact,
    artifact_names,
    drafted,
    finished,
    open_artifact,
    publish,
)
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
    "ARTIFACTS",
    "ARTIFACT_CARD",
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
    "Artifact",
    "ArtifactCard",
    "CrossValidation",
    "Metrics",
    "Run",
    "RunCard",
    "Stored",
    "Threshold",
    "artifact_names",
    "check_free",
    "drafted",
    "finished",
    "is_crossval",
    "open_artifact",
    "out_of_fold",
    "publish",
    "stored",
]
