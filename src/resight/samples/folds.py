"""Folds for cross-validation: every picture is tested in exactly one, no group is in two, classes are spread evenly.

A function of the files, their groups, the number of folds and the seed: not of the order of the files. Without groups,
each class is shuffled by its own Philox generator and dealt out evenly, so that two folds differ by at most one picture
of a class, and by at most one in all. With groups, whole groups go, the largest first, to the fold that is furthest
from its share of their classes (`splits.deal`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from resight.errors import DataError, UsageError
from resight.samples.model import Sample, SampleSet, show_names
from resight.samples.order import natural_key
from resight.samples.splits import Item, carve, check_fractions, deal, generator, grouped

HELD_OUT = "in the test part of the data set, which cross-validation does not look at"


def deal_folds(items: Sequence[Item], folds: int, seed: int) -> list[int]:
    """The fold of each item, 0 … folds − 1. Raises ``UsageError`` for fewer than 2 folds or a seed below 0,
    ``DataError`` for fewer pictures (or groups) than folds.
    """
    check_fractions({}, seed)
    if type(folds) is not int or folds < 2:
        raise UsageError(f"the number of folds is {folds!r}; expected a whole number, 2 or more")
    if any(item.group is not None for item in items):
        return _deal_groups(items, folds, seed)
    if folds > len(items):
        raise DataError(f"{len(items)} pictures are fewer than {folds} folds", hint=f"use --folds {len(items)} or less")
    return _deal_classes(items, folds, seed)


def _deal_classes(items: Sequence[Item], folds: int, seed: int) -> list[int]:
    members: dict[str, list[int]] = defaultdict(list)
    for position in sorted(range(len(items)), key=lambda i: items[i].key):
        members[items[position].label].append(position)
    dealt, sizes = [0] * len(items), [0] * folds
    for label in sorted(members):
        shuffled = [members[label][k] for k in generator(seed, f"folds:{label}").permutation(len(members[label]))]
        # the folds with the fewest pictures so far come first, and so get what is left over
        order = sorted(range(folds), key=lambda fold: sizes[fold])
        for turn, position in enumerate(shuffled):
            fold = order[turn % folds]
            dealt[position] = fold
            sizes[fold] += 1
    return dealt


def _deal_groups(items: Sequence[Item], folds: int, seed: int) -> list[int]:
    units, tables, classes = grouped(items)
    if folds > len(units):
        raise DataError(
            f"{len(units)} groups are fewer than {folds} folds: a group is never divided",
            hint=f"use --folds {len(units)} or less" if len(units) > 1 else "cross-validation needs two groups or more",
        )
    names = deal(tables, classes, {str(fold): 1 / folds for fold in range(folds)}, generator(seed, "groups"))
    dealt = [0] * len(items)
    for positions, name in zip(units, names, strict=True):
        for position in positions:
            dealt[position] = int(name)
    empty = folds - len(set(dealt))
    if empty:
        raise DataError(
            f"{empty} of {folds} folds would have no picture: a few groups hold nearly all of them",
            hint="use fewer --folds, or finer groups",
        )
    return dealt


def fold_sets(samples: SampleSet, folds: int, seed: int, val_fraction: float) -> tuple[list[SampleSet], list[str]]:
    """One set for each fold, with the fold as its test part and a validation part carved from the rest, as training
    does; and warnings. All have the same samples in the same order.

    ``samples``: as the layout splits them. Pictures of its test part are left out of all folds; those of its train and
    val parts are dealt out together. Raises ``DataError`` where a fold could not be learned from the others, and what
    ``deal_folds`` raises.
    """
    check_fractions({"val": val_fraction}, seed)
    pool = samples.leaving_out([HELD_OUT if sample.split == "test" else None for sample in samples.samples])
    items = [_item(pool, sample) for sample in pool.samples]
    dealt = deal_folds(items, folds, seed)
    _check_learnable(items, dealt)
    warnings = _absent(items, dealt, folds)
    sets = []
    for fold in range(folds):
        rest = [position for position, own in enumerate(dealt) if own != fold]
        parts, found = carve([items[position] for position in rest], {"val": val_fraction}, seed)
        splits = ["test"] * len(items)
        for position, part in zip(rest, parts, strict=True):
            splits[position] = part
        if "val" not in parts:
            raise DataError(
                f"fold {fold + 1} of {folds} leaves too few pictures for a validation part",
                hint="use fewer --folds, or a larger --set data.val_fraction",
            )
        warnings += [f"fold {fold + 1}: {text}" for text in found]
        moved = tuple(replace(s, split=split) for s, split in zip(pool.samples, splits, strict=True))
        sets.append(replace(pool, samples=moved))
    return sets, warnings


def training_folds(samples: SampleSet, folds: int, seed: int) -> list[SampleSet]:
    """One set for each fold of the training part: the fold is its validation part, the other folds its training part,
    and nothing else is in either. Raises ``DataError`` where a fold could not be learned from the others, and what
    ``deal_folds`` raises.
    """
    places = [position for position, sample in enumerate(samples.samples) if sample.split == "train"]
    items = [_item(samples, samples.samples[position]) for position in places]
    dealt = deal_folds(items, folds, seed)
    _check_learnable(items, dealt)
    sets = []
    for fold in range(folds):
        splits = ["test"] * len(samples)
        for position, own in zip(places, dealt, strict=True):
            splits[position] = "val" if own == fold else "train"
        moved = tuple(replace(s, split=split) for s, split in zip(samples.samples, splits, strict=True))
        sets.append(replace(samples, samples=moved))
    return sets


def _item(samples: SampleSet, sample: Sample) -> Item:
    key = (sample.source, -1 if sample.index is None else sample.index)
    return Item(key, samples.classes[sample.label], sample.group)


def _check_learnable(items: Sequence[Item], dealt: Sequence[int]) -> None:
    """Raise ``DataError`` for classes whose pictures are all in one fold: tested, they could not have been learned."""
    places: dict[str, set[int]] = defaultdict(set)
    for item, fold in zip(items, dealt, strict=True):
        places[item.label].add(fold)
    stuck = sorted((label for label, there in places.items() if len(there) < 2), key=natural_key)
    if stuck:
        grouped = any(item.group is not None for item in items)
        more = "more than one group: add pictures of others" if grouped else "two pictures or more: add some"
        raise DataError(
            f"{len(stuck)} of {len(places)} classes have all their pictures in one fold, so that nothing is left to "
            f"learn them from: {show_names(stuck)}",
            hint=f"a class needs {more}, or leave it out",
        )


def _absent(items: Sequence[Item], dealt: Sequence[int], folds: int) -> list[str]:
    there = Counter(label for label, _ in {(item.label, fold) for item, fold in zip(items, dealt, strict=True)})
    few = sorted((label for label, count in there.items() if count < folds), key=natural_key)
    if not few:
        return []
    return [
        f"{len(few)} of {len(there)} classes are in fewer than {folds} folds, so some folds are tested without them: "
        f"{show_names(few)}"
    ]
