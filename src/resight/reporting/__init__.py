"""Pages for people: one self-contained HTML file each, without scripts. Needs the extra ``report``."""

from resight.reporting.any_report import write_any_report
from resight.reporting.evaluation_page import Answered, Rival, write_report
from resight.reporting.multilabel_page import MultilabelAnswered, write_multilabel_report
from resight.reporting.page import data_uri, render, svg, thumbnail, write_page

__all__ = [
    "Answered",
    "MultilabelAnswered",
    "Rival",
    "data_uri",
    "render",
    "svg",
    "thumbnail",
    "write_any_report",
    "write_multilabel_report",
    "write_page",
    "write_report",
]
