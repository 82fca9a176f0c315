"""doctor's page: what is wrong first, then each finding with its pictures beside each other, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resight.doctor import Diagnosis, Finding, Item
from resight.doctor.finding import picture, plural
from resight.errors import ImageError
from resight.images import Geometry, decode_for, printable, visible
from resight.reporting.page import thumbnail, write_page
from resight.samples import SampleSet

ITEMS = 24
"""Shown of each finding; the JSON has all."""
MEMBERS = 6
"""Pictures shown of one group."""

_SIDE = 144
_GEOMETRY = Geometry("letterbox", _SIDE)
_TONE = {"error": "bad", "warning": "warn", "note": "soft"}


def write_doctor(found: Diagnosis, path: Path) -> None:
    """Write the page to ``path``. Raises StorageError."""
    write_page(
        path,
        "doctor.html",
        name=found.data.name or str(found.data),
        described=found.described(),
        summary=found.summary(),
        counts=[(_TONE[severity], plural(severity, count), count) for severity, count in found.counts().items()],
        findings=[_finding(found.samples, finding, number) for number, finding in enumerate(found.findings, start=1)],
    )


def _finding(samples: SampleSet, finding: Finding, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "severity": finding.severity,
        "tone": _TONE[finding.severity],
        "title": finding.title,
        "effect": finding.effect,
        "remedy": finding.remedy,
        "command": finding.command,
        "texts": finding.texts[:40],
        "more_texts": max(0, len(finding.texts) - 40),
        "items": [_item(samples, item) for item in finding.items[:ITEMS]],
        "more": max(0, len(finding.items) - ITEMS),
        "grouped": any(len(item.pictures) > 1 for item in finding.items),
    }


def _item(samples: SampleSet, item: Item) -> dict[str, Any]:
    return {
        "note": printable(item.note, 400),
        "pictures": [{**picture(samples, k), "image": _image(samples, k)} for k in item.pictures[:MEMBERS]],
        "more": max(0, len(item.pictures) - MEMBERS),
    }


def _image(samples: SampleSet, position: int) -> str:
    """A data address; empty where the picture cannot be read."""
    sample = samples.samples[position]
    try:
        if sample.index is not None:
            return thumbnail(samples.read(sample), _SIDE)
        pixels = decode_for(_GEOMETRY, samples.path(sample), channels=None, source=sample.source)
        return thumbnail(visible(pixels), _SIDE)
    except ImageError:
        return ""
