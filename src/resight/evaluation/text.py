"""An evaluation as plain text for a terminal."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from resight.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from resight.evaluation.report import ClassResult, Evaluation

NAME_WIDTH = 32
GROUPED = "Pictures of one group are alike: intervals take them as independent, and so are too narrow."
FEW = 30  # below this, a bootstrap interval says less than it seems to
JOINERS = "\u200c\u200d"  # needed to write Persian, Hindi and others; harmless
NUMBERS = ("log_loss", "brier")  # all others are shares
LABELS = {
    "accuracy": "accuracy",
    "macro_precision": "precision, mean of classes",
    "macro_recall": "recall, mean of classes",
    "macro_f1": "F1, mean of classes",
    "auroc": "AUROC, mean of classes",
    "average_precision": "average precision, mean",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "aurc": "risk over coverage",
}


def render(evaluation: Evaluation, max_classes: int) -> str:
    """The text of `Evaluation.to_text`; ends without a newline."""
    parts = [_metrics(evaluation), _classes(evaluation, max_classes), _confusions(evaluation)]
    return "\n\n".join(part for part in parts if part)


def clean(name: str, width: int = NAME_WIDTH) -> str:
    """A name that cannot move the cursor, colour the text or turn its direction, in ``width`` columns.

    Control, surrogate, direction and other invisible characters and line separators become U+FFFD.
    """
    shown = "".join("\ufffd" if _unsafe(character) else character for character in name)
    ends = list(accumulate(_width(character) for character in shown))
    if not shown or ends[-1] <= width:
        return shown
    return shown[: bisect_right(ends, width - 1)] + "…"


def columns(text: str) -> int:
    """The terminal columns that the text takes: two for wide characters, none for combining marks."""
    return sum(_width(character) for character in text)


def _metrics(evaluation: Evaluation) -> str:
    pictures = "picture" if evaluation.n == 1 else "pictures"
    lines = [f"{evaluation.n} {pictures}, {len(evaluation.classes)} classes, 95 % intervals", ""]
    rows = [
        [LABELS.get(key, key.replace("top", "top-")), *(nats(e) if key in NUMBERS else percent(e))]
        for key, e in evaluation.metrics.items()
    ]
    lines += table(rows, "lrl")
    if evaluation.n < FEW:
        lines += [
            "",
            f"With fewer than {FEW} pictures the intervals of means, loss and calibration are too narrow.",
        ]
    if any(group.n > 1 for group in evaluation.groups):
        lines += ["", GROUPED]
    return "\n".join(lines)


def _classes(evaluation: Evaluation, max_classes: int) -> str:
    results = evaluation.per_class
    f1 = [result.f1.value if result.f1 else np.inf for result in results]
    order = sorted(range(len(results)), key=f1.__getitem__)
    shown = sorted(order[:max_classes])
    if not shown:
        return ""
    header = ["class", "pictures", "precision", "", "recall", "", "F1", ""]
    lines = table([header, *(_class_row(results[i]) for i in shown)], "lrrlrlrl")
    hidden = len(results) - len(shown)
    if hidden:
        lines += ["", f"The {len(shown)} classes with the lowest F1; {hidden} more are not shown."]
    return "\n".join(lines)


def _class_row(result: ClassResult) -> list[str]:
    cells = [clean(result.name), str(result.support)]
    for estimate in (result.precision, result.recall, result.f1):
        cells += percent(estimate) if estimate else ("–", "")
    return cells


def _confusions(evaluation: Evaluation, most: int = 5) -> str:
    names = evaluation.classes
    lines = [
        f"  true {clean(names[true])} → predicted {clean(names[predicted])}: {count}"
        for true, predicted, count in evaluation.confusions(most)
    ]
    return "\n".join(["Most frequent confusions", *lines]) if lines else ""


def percent(estimate: Estimate) -> tuple[str, str]:
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} %", f"[{low:.1f}, {high:.1f}]"


def nats(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.3f}  ", f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines of columns two blanks apart, each aligned "l" left or "r" right."""
    widths = [max(columns(row[i]) for row in rows) for i in range(len(align))]
    lines = []
    for row in rows:
        padded = []
        for cell, width, side in zip(row, widths, align, strict=True):
            blanks = " " * (width - columns(cell))
            padded.append(blanks + cell if side == "r" else cell + blanks)
        lines.append("  ".join(padded).rstrip())
    return lines


def _unsafe(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINERS)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
