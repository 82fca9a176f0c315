"""The page of an evaluation of either task."""

from __future__ import annotations

from pathlib import Path

from resight.inference import Predictor
from resight.reporting.evaluation_page import Answered, write_report
from resight.reporting.multilabel_page import MultilabelAnswered, write_multilabel_report


def write_any_report(path: Path, answered: Answered | MultilabelAnswered, predictor: Predictor) -> None:
    """`write_report` or `write_multilabel_report`."""
    if isinstance(answered, MultilabelAnswered):
        write_multilabel_report(path, answered, predictor)
    else:
        write_report(path, answered, predictor)
