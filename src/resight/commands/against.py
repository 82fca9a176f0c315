"""Two Runs on the same pictures, for ``resight eval --against`` and the report. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.evaluation import Comparison, Estimate, Paired, compare_answers
from resight.evaluation.text import clean
from resight.images import printable

NAMED = 10  # pictures and classes in the text, at most


@dataclass(frozen=True, eq=False)
class Against:
    """Another Run on the same pictures.

    positions: int64 (M,), which of the pictures both could answer. predicted: the other Run's answers to them, class
    names. only_first, only_second: sources that one Run alone has right. warnings: whole sentences.
    """

    run: Path
    comparison: Comparison
    positions: NDArray[np.int64]
    predicted: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.run),
            **self.comparison.to_dict(),
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """For a terminal: both accuracies, their difference and its test, classes that differ most, pictures."""
        pair = self.comparison.overall
        lines = [f"Against {printable(str(self.run))}, on the same {pair.n:,} pictures", ""]
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [
            f"accuracy     {_share(pair.first)}",
            f"the other    {_share(pair.second)}",
            f"difference   {_points(pair)} points",
            f"p            {pair.p:.3g}  (McNemar's exact test: {_meaning(pair)})",
        ]
        differing = [pair for pair in self.comparison.per_class if pair.only_first != pair.only_second]
        differing.sort(key=lambda pair: (pair.p, pair.name))
        if differing:
            lines += ["", "Classes that differ most (p corrected for the number of classes, Holm)"]
            lines += [
                f"  {clean(pair.name)}: {_points(pair)} points, only this {pair.only_first:,}, only the other "
                f"{pair.only_second:,}, p {pair.p:.2g}"
                for pair in differing[:NAMED]
            ]
        lines += _listed("Right by this Run alone", self.only_first)
        lines += _listed("Right by the other alone", self.only_second)
        return "\n".join(lines)


def against(
    run: Path,
    ours: tuple[Sequence[str], Sequence[str], Sequence[str]],
    positions: NDArray[np.int64],
    predicted: Sequence[str],
    warnings: Sequence[str],
) -> Against:
    """``ours``: of each picture the source, the true class and the first Run's answer, by name; ``positions`` int64
    (M,) are those that the second Run, ``run``, answered with ``predicted``.
    """
    sources, true, answers = ([names[k] for k in positions] for names in ours)
    classes = sorted({*true, *answers, *predicted})
    number = {name: k for k, name in enumerate(classes)}
    first, second, truth = (np.array([number[n] for n in names], np.int64) for names in (answers, predicted, true))
    right, other = first == truth, second == truth
    return Against(
        run=run,
        comparison=compare_answers(first, second, truth, classes),
        positions=positions,
        predicted=tuple(predicted),
        only_first=tuple(sources[k] for k in np.flatnonzero(right & ~other)),
        only_second=tuple(sources[k] for k in np.flatnonzero(~right & other)),
        warnings=tuple(warnings),
    )


def _share(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} %  [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _meaning(pair: Paired) -> str:
    if pair.only_first + pair.only_second == 0:
        return "no picture tells them apart"
    return "more than luck explains" if pair.p < 0.05 else "luck alone could explain it"


def _points(pair: Paired) -> str:
    e = pair.difference
    return f"{100 * e.value:+.1f}  [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"


def _listed(title: str, sources: Sequence[str]) -> list[str]:
    if not sources:
        return []
    more = [f"  and {len(sources) - NAMED:,} more (all of them: --json)"] if len(sources) > NAMED else []
    return ["", f"{title}: {len(sources):,}", *(f"  {printable(source)}" for source in sources[:NAMED]), *more]
