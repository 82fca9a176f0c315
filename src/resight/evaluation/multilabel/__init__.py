"""How good are answers with any number of labels? Each class is answered for itself, by a sigmoid."""

from resight.evaluation.multilabel.calibration import (
    DEFAULT_THRESHOLD,
    ENOUGH_POSITIVES,
    fit_temperature,
    fit_thresholds,
    given,
    reliability,
)
from resight.evaluation.multilabel.metrics import (
    binary_log_loss,
    binary_losses,
    mean_average_precision,
    pairs,
    rankable,
    sigmoid,
    subset_accuracy,
)
from resight.evaluation.multilabel.paired import map_difference
from resight.evaluation.multilabel.report import LabelResult, MultilabelEvaluation, evaluate_multilabel

__all__ = [
    "DEFAULT_THRESHOLD",
    "ENOUGH_POSITIVES",
    "LabelResult",
    "MultilabelEvaluation",
    "binary_log_loss",
    "binary_losses",
    "evaluate_multilabel",
    "fit_temperature",
    "fit_thresholds",
    "given",
    "map_difference",
    "mean_average_precision",
    "pairs",
    "rankable",
    "reliability",
    "sigmoid",
    "subset_accuracy",
]
