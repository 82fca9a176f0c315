"""Pictures that belong together though they differ: bursts of one camera, copies and frames by their names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath

from resight.doctor.duplicates import WRITE, crosses
from resight.doctor.finding import Finding, Item, counted
from resight.doctor.scan import Scan
from resight.samples import SampleSet

BURST = 5
"""Seconds between two pictures of one camera body that count as one scene."""
BURST_BY_MODEL = 1
"""The same where only the model is known, which several people may have."""
COPIES = 8
"""``shirt (1)`` … ``shirt (400)`` is how Windows numbers files that were renamed together: more than so many names are
no copies of one file."""

_COPY = re.compile(r"(?:\s*\(\d{1,3}\)|[\s_-]+copy(?:[\s_-]*\d{1,3}|\s*\(\d{1,3}\))?)$", re.IGNORECASE)
_AUGMENTED = re.compile(r"\.rf\.[0-9a-f]{8,}$", re.IGNORECASE)  # how Roboflow names augmented versions of one picture
_FRAME = re.compile(r"^(.*?)[\s_-]*(?:frame|frm)[\s_-]*\d+$", re.IGNORECASE)


def bursts(scan: Scan) -> tuple[tuple[int, ...], ...]:
    """Groups of pictures from one camera with at most ``BURST`` seconds between neighbours."""
    cameras = defaultdict(list)
    for position, shot in scan.shots.items():
        if shot.camera or shot.serial:
            cameras[shot.camera, shot.serial].append((shot.time, position))
    found = []
    for (_, serial), taken in cameras.items():
        taken.sort()
        group = [taken[0][1]]
        for (before, _), (time, position) in pairwise(taken):
            if time - before > (BURST if serial else BURST_BY_MODEL):
                found.append(group)
                group = []
            group.append(position)
        found.append(group)
    return tuple(sorted(tuple(sorted(group)) for group in found if len(group) > 1))


def stems(samples: SampleSet) -> tuple[tuple[int, ...], ...]:
    """Groups by name: copies (``IMG_1 (2)``, ``IMG_1 - Copy``), augmented versions, frames of one film.

    Copies and versions may be in any folder of their class; frames are of one film only within their
    class, where the name says which, and where it is not most of the class.
    """
    copies, frames = defaultdict(list), defaultdict(list)
    for position, sample in enumerate(samples.samples):
        if sample.index is not None:
            continue
        stem = PurePosixPath(sample.source).stem
        film = _FRAME.match(stem)
        if film and film[1]:
            frames[sample.each, film[1]].append(position)
        elif film:
            continue  # frame_0001 names no film
        elif plain := _AUGMENTED.sub("", stem):
            bare = _COPY.sub("", plain)
            copies[sample.each, bare].append((position, stem))
    sizes = Counter(sample.each for sample in samples.samples)
    found = [
        tuple(group)
        for (label, _), group in frames.items()
        if 1 < len(group) <= sizes[label] / 2  # a class that is one film could not be split at all
    ]
    for (_, bare), group in copies.items():
        # Two folders may both hold a plain 0001.jpg: only a name that says so makes a copy.
        few = len(group) <= COPIES and any(stem != bare for _, stem in group)
        if len(group) > 1 and (few or all(_AUGMENTED.search(stem) for _, stem in group)):
            found.append(tuple(position for position, _ in group))
    return tuple(sorted(found))


def given(samples: SampleSet) -> tuple[tuple[int, ...], ...]:
    """Groups that the table names."""
    named = defaultdict(list)
    for position, sample in enumerate(samples.samples):
        if sample.group is not None:
            named[sample.group].append(position)
    return tuple(tuple(group) for group in named.values() if len(group) > 1)


def findings(scan: Scan, carved: bool) -> list[Finding]:
    """``carved``: whether a training would still take parts out of train."""
    return [
        *_leaking(scan.samples, given(scan.samples), carved, "groups", "groups of the table", "a group of the table"),
        *_leaking(scan.samples, bursts(scan), carved, "bursts", "pictures taken by one camera within seconds",
                  "one camera, the same seconds"),
        *_leaking(scan.samples, stems(scan.samples), carved, "names", "copies or frames by their names",
                  "names of one original"),
    ]  # fmt: skip


def _leaking(
    samples: SampleSet, groups: tuple[tuple[int, ...], ...], carved: bool, kind: str, what: str, note: str
) -> Iterator[Finding]:
    across = [group for group in groups if crosses(samples, group)]
    within = [group for group in groups if not crosses(samples, group)]
    if across:
        yield Finding(
            f"{kind}-across-splits", "warning", f"{what}, in more than one part ({counted(len(across), 'group')})",
            "val or test asks for the scene that training has seen: the score may be too good for new pictures",
            "move each group into one part", items=tuple(Item(group, note) for group in across),
        )  # fmt: skip
    if within and carved and kind != "groups":  # carving keeps the table's groups together
        yield Finding(
            kind, "note", f"{what} ({counted(len(within), 'group')})",
            "when parts are carved out, some of a group may train and others test: the score would be too good",
            "give each a common group", WRITE, tuple(Item(group, note) for group in within),
            cleaned="; the manifest does",
        )  # fmt: skip
