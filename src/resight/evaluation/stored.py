"""Evaluations as a Run's card holds them, of either task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.evaluation.multilabel import MultilabelEvaluation
from resight.evaluation.report import Evaluation


def read_evaluation(stored: Mapping[str, Any]) -> Evaluation | MultilabelEvaluation:
    """What ``to_dict`` of either made. Raises DataError for anything else."""
    return (MultilabelEvaluation if stored.get("task") == "multi" else Evaluation).from_dict(stored)
