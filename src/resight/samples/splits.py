"""Carving splits out of the training pictures: stratified, seeded, and never through a group.

Without groups, each class is shuffled on its own, by numpy's Philox seeded with (seed, class name): pictures
added to another class change nothing for this one. With groups, whole groups are dealt out, the largest
first, to where they bring the counts per class nearest to what was asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.samples.model import show_names
from resight.samples.order import natural_key


@dataclass(frozen=True)
class Item:
    """What carving needs to know of one sample: a stable name, its class, its group. ``labels``: several classes, for
    :mod:`resight.samples.multilabel_splits`.
    """

    key: tuple[str, int]
    label: str
    group: str | None = None
    labels: tuple[str, ...] | None = None


Table = list[tuple[int, int]]
"""(class, count) of the classes that are in a group, by class: most of many groups and classes never meet."""


def carve(items: Sequence[Item], fractions: dict[str, float], seed: int) -> tuple[list[str], list[str]]:
    """Deal ``items`` out to "train" and the parts named in ``fractions``; return the part of each, and
    warnings.

    ``fractions`` maps val and test to their share of ``items``. Each class keeps at least one training
    picture, and gives at least one to each part where it has enough. Nothing depends on the order of
    ``items``. Raises ``UsageError`` for fractions that are not within 0 … 1 or leave nothing for training.
    """
    check_fractions(fractions, seed)
    wanted = {part: share for part, share in fractions.items() if share > 0}
    if not wanted:
        return ["train"] * len(items), []
    if any(item.group is not None for item in items):
        parts = _carve_groups(items, wanted, seed)
    else:
        parts = _carve_classes(items, wanted, seed)
    return parts, missing({(item.label, part) for item, part in zip(items, parts, strict=True)}, wanted)


def check_fractions(fractions: dict[str, float], seed: int) -> None:
    """Raise ``UsageError`` unless all are from 0 to below 1, together below 1, and ``seed`` is not
    negative.
    """
    for part, share in fractions.items():
        if not 0 <= share < 1:
            raise UsageError(f"{part}_fraction is {share!r}; expected a number from 0 to below 1")
    if sum(fractions.values()) >= 1:
        raise UsageError(f"the fractions {fractions} leave no pictures for training; expected a sum below 1")
    if type(seed) is not int or seed < 0:
        raise UsageError(f"the seed is {seed!r}; expected a whole number, 0 or more")


def generator(seed: int, name: str) -> np.random.Generator:
    """Philox, seeded with both."""
    digest = hashlib.sha256(f"{seed}:".encode() + name.encode("utf-8", "surrogateescape")).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _carve_classes(items: Sequence[Item], fractions: dict[str, float], seed: int) -> list[str]:
    members: dict[str, list[int]] = defaultdict(list)
    for position in sorted(range(len(items)), key=lambda i: items[i].key):
        members[items[position].label].append(position)
    parts = ["train"] * len(items)
    for label, positions in members.items():
        order = generator(seed, label).permutation(len(positions))
        start = 0
        for part, size in _sizes(len(positions), fractions).items():
            for chosen in order[start : start + size]:
                parts[positions[chosen]] = part
            start += size
    return parts


def _sizes(total: int, fractions: dict[str, float]) -> dict[str, int]:
    """How many of ``total`` go to each part: rounded half up, at least one each, while one is left for
    training.
    """
    sizes, left = {}, total - 1
    for after, (part, share) in zip(reversed(range(len(fractions))), fractions.items(), strict=True):
        sizes[part] = min(left, max(1, min(int(total * share + 0.5), left - after)))
        left -= sizes[part]
    return sizes


def _carve_groups(items: Sequence[Item], fractions: dict[str, float], seed: int) -> list[str]:
    units, tables, classes = grouped(items)
    dealt = _deal(tables, classes, fractions, generator(seed, "groups"))
    parts = [""] * len(items)
    for positions, part in zip(units, dealt, strict=True):
        for position in positions:
            parts[position] = part
    return parts


def grouped(items: Sequence[Item]) -> tuple[list[list[int]], list[Table], int]:
    """What must stay together: the positions of each group, its table, and the number of classes. A sample without a
    group is a group of its own. In an order that is not that of ``items``.
    """
    labels = {label: number for number, label in enumerate(sorted({item.label for item in items}))}
    units: dict[tuple[bool, str, int], list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        units[(False, *item.key) if item.group is None else (True, item.group, 0)].append(position)
    members = [units[name] for name in sorted(units)]
    tables = [sorted(Counter(labels[items[position].label] for position in unit).items()) for unit in members]
    return members, tables, len(labels)


def _deal(
    tables: Sequence[Table], classes: int, fractions: dict[str, float], generator: np.random.Generator
) -> list[str]:
    """Deal groups out, given the table of each; return the part of each."""
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    dealt = deal(tables, classes, shares, generator)
    give_back(tables, classes, dealt)
    return dealt


def deal(tables: Sequence[Table], classes: int, shares: dict[str, float], generator: np.random.Generator) -> list[str]:
    """The part of each group, the largest first, so that every part comes near its share of each class."""
    totals = [0] * classes
    for table in tables:
        for label, count in table:
            totals[label] += count
    missing = {part: [share * total for total in totals] for part, share in shares.items()}
    sizes = np.array([_size(table) for table in tables], np.int64)
    shuffled = generator.permutation(len(tables))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    dealt = [next(iter(shares))] * len(tables)
    for row in order.tolist():
        # how much the squared distance to the wanted counts grows, each class weighing the same
        cost = {
            part: math.fsum(count * (count - 2 * gaps[label]) / totals[label] for label, count in tables[row])
            for part, gaps in missing.items()
        }
        dealt[row] = min(cost, key=lambda part: cost[part])
        for label, count in tables[row]:
            missing[dealt[row]][label] -= count
    return dealt


def _size(table: Table) -> int:
    return sum(count for _, count in table)


def give_back(tables: Sequence[Table], classes: int, dealt: list[str]) -> None:
    """Move a group back to training for each class that has none there: its smallest one."""
    trained: set[int] = set()
    smallest: dict[int, tuple[int, int]] = {}  # class → size, row
    for row, table in enumerate(tables):
        found = (_size(table), row)
        for label, _ in table:
            smallest[label] = min(smallest.get(label, found), found)
            if dealt[row] == "train":
                trained.add(label)
    for label in range(classes):
        if label not in trained:
            _, row = smallest[label]
            dealt[row] = "train"
            trained.update(there for there, _ in tables[row])


def missing(found: set[tuple[str, str]], fractions: dict[str, float]) -> list[str]:
    """Warnings of parts without a picture of some classes. ``found``: the (class, part) that there are."""
    labels = sorted({label for label, _ in found}, key=natural_key)
    warnings = []
    for part in fractions:
        without = [label for label in labels if (label, part) not in found]
        if without:
            warnings.append(
                f"{len(without)} of {len(labels)} classes have too few pictures to give any to {part}: "
                f"{show_names(without)}"
            )
    return warnings
