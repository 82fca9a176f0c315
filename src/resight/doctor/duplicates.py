"""Groups of pictures that are the same: exactly, by content, and nearly, by hashes that registration confirms."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.doctor.alignment import agreement, coarse
from resight.doctor.finding import Finding, Item, counted
from resight.doctor.scan import Scan, chunks, small_grey
from resight.doctor.search import candidates
from resight.samples import SampleSet

COARSE_LEAST = 0.85
GREY_LEAST = 0.93
SLOPES_LEAST = 0.93
"""Least correlations of two pictures that are called the same; chosen on photos and seeds that no result is of."""

SMALL, SMALL_COARSE, SMALL_LEAST = 32, 0.995, 0.99
"""Pictures whose shorter side is below SMALL pixels show too little for that: of 70,000 clothes at 28 px, 11 million
pairs pass COARSE_LEAST. Only copies with the same framing can be told there, by these correlations."""

_PAIRS = 64  # registered at a time
_KEPT = 2048  # small pictures in memory at a time
_FLAT = 3.0  # below this deviation of grey there is nothing to compare


@dataclass(frozen=True)
class Duplicates:
    """Groups of positions, each sorted. ``near`` have members that are not ``exact``; those of a group of ``exact``
    count as one picture there, so a group may be in both."""

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]


def find(scan: Scan, progress: Callable[[int, int], None] | None = None) -> Duplicates:
    """All groups of two or more pictures. Blank pictures are left out: they are all alike."""
    textured = scan.good & (scan.contrast >= _FLAT)
    exact = Groups()
    there = np.flatnonzero(textured)
    for hashed in (scan.content, scan.pixels):
        for group in identical(hashed[there]):
            for other in group[1:]:
                exact.join(int(there[group[0]]), int(there[other]))
    distinct = np.array([k for k in there.tolist() if exact.root(k) == k], np.int64)
    pairs = distinct[candidates(scan.hashes[distinct])]
    small = (scan.sizes.min(axis=1) < SMALL)[pairs].any(axis=1)
    near = _joined(scan, pairs[_coarse_enough(scan.coarse, pairs, small)], progress)
    members = defaultdict(list)
    for position in there.tolist():
        members[near.root(exact.root(position))].append(position)
    joined = {root for root in (near.root(k) for k in distinct.tolist()) if len(near.members(root)) > 1}
    return Duplicates(exact.groups(), tuple(tuple(members[root]) for root in sorted(joined)))


def identical(content: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Groups of equal rows of (N, 16), as positions."""
    whole = np.ascontiguousarray(content).view(np.dtype((np.void, content.shape[1]))).ravel()
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[inverse] > 1)
    groups: dict[int, list[int]] = {}
    for position in again.tolist():
        groups.setdefault(int(inverse[position]), []).append(position)
    return sorted(tuple(group) for group in groups.values())


def conflicts(samples: SampleSet, group: Iterable[int]) -> bool:
    """Whether its pictures have different labels."""
    return len({samples.samples[k].each for k in group}) > 1


def crosses(samples: SampleSet, group: Iterable[int]) -> bool:
    """Whether its pictures are in more than one part."""
    return len({samples.samples[k].split for k in group}) > 1


class Groups:
    """Union-find with path halving (Tarjan and van Leeuwen 1984); the smallest position stands for its group."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}

    def root(self, position: int) -> int:
        while (above := self._above.get(position, position)) != position:
            self._above[position] = self._above.get(above, above)
            position = above
        return position

    def join(self, left: int, right: int) -> None:
        low, high = sorted((self.root(left), self.root(right)))
        if low != high:
            self._above[high] = low
            self._members[low] = [*self._members.get(low, [low]), *self._members.pop(high, [high])]

    def members(self, position: int) -> Sequence[int]:
        root = self.root(position)
        return self._members.get(root, [root])

    def groups(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted(members)) for _, members in sorted(self._members.items()))


def _coarse_enough(rows: NDArray[np.uint8], pairs: NDArray[np.int64], small: NDArray[np.bool_]) -> NDArray[np.bool_]:
    keep = np.zeros(len(pairs), np.bool_)
    for part in chunks(len(pairs), 1 << 14):
        least = np.where(small[part], SMALL_COARSE, COARSE_LEAST)
        keep[part] = coarse(rows[pairs[part, 0]], rows[pairs[part, 1]]) >= least
    return keep


def _joined(scan: Scan, pairs: NDArray[np.int64], progress: Callable[[int, int], None] | None) -> Groups:
    """Groups of the pairs that registration confirms. Those that others have joined already are not registered: of a
    thousand frames of a still scene a thousand pairs are, not half a million.
    """
    samples, small, near = scan.samples, scan.sizes.min(axis=1) < SMALL, Groups()
    kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def look(position: int) -> NDArray[np.uint8]:
        if position not in kept:
            kept[position] = small_grey(samples, samples.samples[position])
            if len(kept) > _KEPT:
                kept.popitem(last=False)
        return kept[position]

    for part in chunks(len(pairs), _PAIRS):
        open_ = np.array([pair for pair in pairs[part].tolist() if near.root(pair[0]) != near.root(pair[1])])
        if len(open_):
            left, right = (np.stack([look(k) for k in open_[:, side].tolist()]) for side in (0, 1))
            grey, slopes = agreement(left, right)
            tiny = small[open_].any(axis=1)
            same = (grey >= np.where(tiny, SMALL_LEAST, GREY_LEAST)) & (
                slopes >= np.where(tiny, SMALL_LEAST, SLOPES_LEAST)
            )
            for one, other in open_[same].tolist():
                near.join(one, other)
        if progress is not None:
            progress(part.stop, len(pairs))
    return near


def findings(scan: Scan, found: Duplicates, carved: bool) -> list[Finding]:
    """``carved``: whether a training would still take parts out of train."""
    samples = scan.samples
    merged = _merged(found)
    there: list[Finding] = []
    conflicting = [group for group in merged if conflicts(samples, group)]
    if conflicting:
        there.append(Finding(
            "conflicting-labels", "error",
            f"the same picture under different labels ({counted(len(conflicting), 'group')})",
            "at least one label is wrong: training learns a contradiction, and in val or test a right answer counts as "
            "wrong",
            "look at each and keep the right one",
            WRITE, _items(found, conflicting), cleaned="; the manifest leaves all of them out",
        ))  # fmt: skip
    for exact, kind, what in ((True, "duplicates", "exact duplicates"), (False, "near-duplicates", "near-duplicates")):
        groups = found.exact if exact else found.near
        across = [group for group in groups if crosses(samples, group)]
        within = [group for group in groups if not crosses(samples, group) and not conflicts(samples, group)]
        if across:
            there.append(Finding(
                f"{kind}-across-splits", "error", f"{what} in more than one part ({counted(len(across), 'group')})",
                "what training has seen, or was chosen by, is asked again: the score is too good for new pictures",
                "keep the copy in test, or else the one in val",
                WRITE, _items(found, across), cleaned="; the manifest does",
            ))  # fmt: skip
        if within:
            risk = "and the parts still to be carved may share them: the score would be too good" if carved else \
                "and in val or test they count more often than others"  # fmt: skip
            there.append(Finding(
                kind, "warning", f"{what} within a part ({counted(len(within), 'group')})",
                f"they weigh more than other pictures in training, {risk}",
                "keep one of each" if exact else "keep them together",
                WRITE, _items(found, within),
                cleaned="; the manifest does" if exact
                else ": the manifest gives them a common group where parts are still to be carved",
            ))  # fmt: skip
    return there


WRITE = "resight doctor {data} --write-manifest {manifest}"
"""The command that writes the cleaned list; ``report`` fills in the names."""


def _merged(found: Duplicates) -> list[tuple[int, ...]]:
    """Near groups, which hold the exact copies of their members, and exact groups that are in none of them."""
    inside = {position for group in found.near for position in group}
    return sorted([*found.near, *(group for group in found.exact if group[0] not in inside)])


def _items(found: Duplicates, groups: Iterable[tuple[int, ...]]) -> tuple[Item, ...]:
    exact = set(found.exact)
    return tuple(Item(group, "identical" if group in exact else "nearly the same") for group in groups)
