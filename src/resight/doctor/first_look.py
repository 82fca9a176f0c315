"""The cheap part, which every training does: what the check before training has read anyway, and counting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.doctor import balance
from resight.doctor.duplicates import conflicts, crosses
from resight.doctor.finding import Finding
from resight.images import printable
from resight.samples import CheckReport, SampleSet

SHOWN = 3


def first_look(samples: SampleSet, report: CheckReport) -> list[str]:
    """Lines for people: exact duplicates across parts or under different labels, classes missing, small or uneven.

    ``samples``: without the bad pictures, so that they are those of ``report.content``, in order. Only errors and
    warnings, and no line where there are none.
    """
    lines = []
    groups = identical(report.content)
    for title, chosen in (
        ("identical pictures under different labels", [g for g in groups if conflicts(samples, g)]),
        ("identical pictures in more than one part", [g for g in groups if crosses(samples, g)]),
    ):
        if chosen:
            shown = "; ".join(
                " = ".join(printable(samples.samples[k].name) for k in group[:2]) for group in chosen[:SHOWN]
            )
            lines.append(f"{title} ({len(chosen):,}): {shown}{'; …' if len(chosen) > SHOWN else ''}")
    lines += [_short(finding) for finding in balance.findings(samples) if finding.severity != "note"]
    return lines


def identical(content: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Groups of equal rows of (N, 16), as positions."""
    whole = np.ascontiguousarray(content).view(np.dtype((np.void, content.shape[1]))).ravel()
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[inverse] > 1)
    groups: dict[int, list[int]] = {}
    for position in again.tolist():
        groups.setdefault(int(inverse[position]), []).append(position)
    return sorted(tuple(group) for group in groups.values())


def _short(finding: Finding) -> str:
    shown = "; ".join(finding.texts[:SHOWN])
    return f"{finding.title}: {shown}{'; …' if len(finding.texts) > SHOWN else ''}"
