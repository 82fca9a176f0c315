"""Carving splits out of pictures with several labels: iterative stratification (Sechidis et al. 2011, algorithm 1).

The label of which fewest pictures are left is dealt out first: each of its pictures goes to the part that lacks most
of this label; among equals, to the one that lacks most pictures. So rare labels, which later choices could not mend,
are spread while there is room; pictures with no label come last. Whole groups are dealt out as one, the largest of a
label first. Drawn by numpy's Philox from the seed: nothing depends on the order of the pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from resight.samples.splits import Item, Table, check_fractions, generator, give_back, grouped, missing


def carve_multilabel(items: Sequence[Item], fractions: dict[str, float], seed: int) -> tuple[list[str], list[str]]:
    """As ``splits.carve``, for items with ``labels``: the part of each, and warnings.

    Each class keeps a training picture; whether it gives one to each other part is not certain, and warned of.
    """
    check_fractions(fractions, seed)
    wanted = {part: share for part, share in fractions.items() if share > 0}
    parts = ["train"] * len(items)
    if not wanted:
        return parts, []
    classes = sorted({name for item in items for name in item.labels or ()})
    numbers = {name: number for number, name in enumerate(classes)}
    units, _, _ = grouped(items)
    groups = [units[k] for k in generator(seed, "labels").permutation(len(units)).tolist()]
    tables: list[Table] = [
        sorted(Counter(numbers[name] for k in group for name in items[k].labels or ()).items()) for group in groups
    ]
    dealt = _deal(tables, [len(group) for group in groups], len(classes), wanted)
    give_back(tables, len(classes), dealt)
    for group, part in zip(groups, dealt, strict=True):
        for position in group:
            parts[position] = part
    found = {(name, part) for item, part in zip(items, parts, strict=True) for name in item.labels or ()}
    return parts, missing(found, wanted)


def _deal(tables: Sequence[Table], sizes: Sequence[int], classes: int, fractions: dict[str, float]) -> list[str]:
    """The part of each unit, given its (class, count) pairs and its number of pictures."""
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    left = [0] * classes  # of each class, the pictures that are still to be dealt out
    members: list[list[int]] = [[] for _ in range(classes)]
    for row, table in enumerate(tables):
        for label, count in table:
            left[label] += count
            members[label].append(row)
    lacking = {part: [share * count for count in left] for part, share in shares.items()}
    room = {part: share * sum(sizes) for part, share in shares.items()}
    dealt = [""] * len(tables)

    def deal(row: int, label: int | None) -> None:
        def need(part: str) -> tuple[float, float]:
            return (0.0 if label is None else lacking[part][label], room[part])

        part = dealt[row] = max(shares, key=need)
        room[part] -= sizes[row]
        for other, count in tables[row]:
            lacking[part][other] -= count
            left[other] -= count

    while any(left):
        rarest = min((label for label in range(classes) if left[label]), key=lambda label: (left[label], label))
        waiting = [row for row in members[rarest] if not dealt[row]]
        for row in sorted(waiting, key=lambda row: -sizes[row]):  # stable: of equal size in the order drawn
            deal(row, rarest)
    for row in sorted((row for row, part in enumerate(dealt) if not part), key=lambda row: -sizes[row]):
        deal(row, None)
    return dealt
