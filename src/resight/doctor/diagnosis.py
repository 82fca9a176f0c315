"""All checks of one data set, and what they found: for a terminal, as JSON, for a page."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.doctor import balance, described, duplicates, leaks, quality, suspects
from resight.doctor.duplicates import Duplicates
from resight.doctor.finding import SEVERITIES, Finding, Item, counted
from resight.doctor.manifest import default_path
from resight.doctor.scan import Scan, scan
from resight.images import printable
from resight.runs import CrossValidation, Run
from resight.samples import SPLITS, SampleSet
from resight.samples.table import UNLABELLED

Progress = Callable[[str, int, int], None]
Describe = Callable[[Sequence[int]], tuple[NDArray[np.float32], str]]
SHOWN = 5
"""Items of a finding shown on a terminal."""


@dataclass(frozen=True)
class Diagnosis:
    """``findings``: the worst first. ``data``: what was looked at."""

    data: Path
    scan: Scan
    duplicates: Duplicates
    findings: tuple[Finding, ...]

    @property
    def samples(self) -> SampleSet:
        return self.scan.samples

    def counts(self) -> dict[str, int]:
        """Findings of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def sound(self) -> bool:
        """No errors and no warnings; notes do not count."""
        return not any(finding.severity != "note" for finding in self.findings)

    def summary(self) -> str:
        """How bad it is, and what to do first: one or two sentences."""
        if not self.findings:
            return "Nothing was found."
        counts = ", ".join(counted(count, severity) for severity, count in self.counts().items() if count)
        first = self.findings[0]
        if first.severity == "note":
            return f"{counts}: nothing that must be done before training."
        return f"{counts}. First: {first.title}: {first.remedy}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every picture of every finding, names exact."""
        samples = self.samples
        sizes = samples.counts()
        return {
            "data": str(self.data),
            "kind": samples.kind,
            "pictures": len(samples),
            "classes": {
                label: {part: int(sizes[part][k]) for part in SPLITS} for k, label in enumerate(samples.classes)
            },
            "summary": self.summary(),
            "counts": self.counts(),
            "findings": [finding.to_dict(samples) for finding in self.findings],
        }  # fmt: skip

    def to_text(self) -> str:
        """For a terminal; lists are cut after a few."""
        lines = [f"{printable(str(self.data))}: {self.described()}", "", self.summary()]
        for finding in self.findings:
            lines += ["", f"{finding.severity:<8} {finding.title}"]
            lines += [f"         {text}" for text in finding.texts[: 2 * SHOWN]]
            lines += [f"         … and {len(finding.texts) - 2 * SHOWN:,} more"] * (len(finding.texts) > 2 * SHOWN)
            lines += [f"         {self.line(item)}" for item in finding.items[:SHOWN]]
            lines += [f"         … and {len(finding.items) - SHOWN:,} more"] * (len(finding.items) > SHOWN)
            lines += [f"         effect: {finding.effect}", f"         remedy: {finding.remedy}"]
            lines += [f"         $ {printable(finding.command, 2000)}"] * bool(finding.command)
        return "\n".join(lines)

    def described(self) -> str:
        """How many pictures, classes, parts."""
        samples = self.samples
        parts = {part: int(counts.sum()) for part, counts in samples.counts().items() if counts.any()}
        if not samples.labelled:
            return f"{len(samples):,} pictures without labels"
        split = "not split" if samples.kind == "folder" else ", ".join(f"{part} {n:,}" for part, n in parts.items())
        classes = len(samples.classes)
        return f"{len(samples):,} pictures, {classes:,} {'class' if classes == 1 else 'classes'} ({split})"

    def line(self, item: Item) -> str:
        """One item on one line: names with classes where there are several, and the note."""
        samples = self.samples
        names = [printable(samples.samples[k].name) for k in item.pictures[:4]]
        more = f" and {len(item.pictures) - 4:,} more" if len(item.pictures) > 4 else ""
        return "  =  ".join(names) + more + (f"  ({printable(item.note)})" if item.note else "")


def diagnose(
    samples: SampleSet,
    data: Path,
    *,
    threads: int,
    run: Run | CrossValidation | None = None,
    describe: Describe | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Every check; each picture is decoded once, and once more where it may be a near-duplicate.

    describe: embeddings of the samples at some positions, float32 (N, D), and by what, for what is alike and what is
    unlike all others. ``progress(what, done, total)`` is called now and then.

    Raises DataError and RunError as ``suspects.findings`` does.
    """

    def say(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    found = suspects.findings(samples, run) if run is not None else []
    seen = scan(samples, threads=threads, progress=say("looking"))
    same = duplicates.find(seen, say("comparing"))
    carved = bool(balance.carved_parts(samples))
    found += _layout(samples) + _unlabelled(samples)
    trained = run.runs[0] if isinstance(run, CrossValidation) else run
    found += quality.findings(seen, trained.card.geometry.size if trained is not None else None)
    found += duplicates.findings(seen, same, carved)
    found += leaks.findings(seen, carved)
    if samples.labelled:
        found += balance.findings(samples)
    if describe is not None:
        whole = np.flatnonzero(seen.good)
        embeddings, name = describe(whole.tolist())
        found += described.findings(embeddings, whole, same, name)
    names = {"data": shlex.quote(str(data)), "manifest": shlex.quote(str(default_path(data)))}
    arrays = samples.kind in ("idx", "cifar")
    filled = [
        replace(f, command="")  # no table can name pictures in array files
        if arrays
        else replace(f, remedy=f.remedy + f.cleaned, command=f.command.format(**names))
        for f in found
    ]
    order = {kind: k for k, kind in enumerate(_FIRST)}
    filled.sort(key=lambda f: (SEVERITIES.index(f.severity), order.get(f.kind, len(order))))
    return Diagnosis(data, seen, same, tuple(filled))


_FIRST = (
    "unreadable", "missing-class", "one-class", "duplicates-across-splits", "near-duplicates-across-splits",
    "conflicting-labels",
)  # fmt: skip


def _layout(samples: SampleSet) -> list[Finding]:
    warnings = tuple(text for text in samples.warnings if not text.endswith(UNLABELLED))
    if not warnings:
        return []
    return [Finding(
        "layout", "warning", "what was left out, or is not as usual, in the folders or the table",
        "what is left out is neither learned nor evaluated; training refuses empty class folders",
        "fill or remove the folders, convert the files, or leave it if it is meant", texts=warnings,
    )]  # fmt: skip


def _unlabelled(samples: SampleSet) -> list[Finding]:
    bare = [k for k, sample in enumerate(samples.samples) if not sample.each]
    if not bare:
        return []
    return [Finding(
        "no-label", "note", f"pictures without a label ({len(bare):,} of {len(samples):,})",
        "they count as showing none of the classes, in training and in every number",
        "nothing, if that is so; write down the labels of those that show a class after all",
        items=tuple(Item((k,)) for k in bare),
    )]  # fmt: skip
