"""The cheap part, which every training does: what the check before training has read anyway, and counting."""

from __future__ import annotations

from resight.doctor import balance
from resight.doctor.duplicates import conflicts, crosses, identical
from resight.doctor.finding import Finding
from resight.images import printable
from resight.samples import CheckReport, SampleSet

SHOWN = 3


def first_look(samples: SampleSet, report: CheckReport, *, balanced: bool = False) -> list[str]:
    """Lines for people: exact duplicates across parts or under different labels, classes missing, small or uneven.

    ``samples``: without the bad pictures, so that they are those of ``report.content``, in order. ``balanced``:
    something is done about uneven classes already and need not be proposed. Only errors and warnings, and no line where
    there are none.
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
    for finding in balance.findings(samples):
        if finding.severity != "note":
            lines.append(_short(finding))
            if finding.kind == "imbalance" and samples.task == "single" and not balanced:
                lines.append(f"more of the small classes are found with {balance.REMEDY} (docs/imbalance.md)")
    return lines


def _short(finding: Finding) -> str:
    shown = "; ".join(finding.texts[:SHOWN])
    return f"{finding.title}: {shown}{'; …' if len(finding.texts) > SHOWN else ''}"
