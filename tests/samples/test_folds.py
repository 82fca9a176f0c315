"""Folds: every picture tested once, classes even, groups whole, the same for any order of the files."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import DataError, UsageError
from resight.samples import HELD_OUT, Sample, SampleSet, fold_sets, split_csv
from resight.samples.folds import deal_folds, training_folds
from resight.samples.splits import Item

class_sizes = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 40), min_size=1, max_size=5)


def items_of(sizes: dict[str, int]) -> list[Item]:
    return [Item((f"{label}/{number}", -1), label) for label, size in sizes.items() for number in range(size)]


def a_set(labels: list[int], groups: list[str | None] | None = None, splits: list[str] | None = None) -> SampleSet:
    names = tuple(f"class {k}" for k in range(max(labels) + 1))
    samples = tuple(
        Sample(f"{k}.png", None, label, splits[k] if splits else "train", groups[k] if groups else None)
        for k, label in enumerate(labels)
    )
    return SampleSet(Path("."), names, samples, 3, "csv")


@given(class_sizes, st.integers(2, 6), st.integers(0, 2**32))
@settings(deadline=None)
def test_folds_are_even_in_each_class_and_in_all(sizes: dict[str, int], folds: int, seed: int) -> None:
    items = items_of(sizes)
    if folds > len(items):
        with pytest.raises(DataError, match="fewer than"):
            deal_folds(items, folds, seed)
        return
    dealt = deal_folds(items, folds, seed)
    for label in (None, *sizes):
        counts = Counter(fold for item, fold in zip(items, dealt, strict=True) if label in (None, item.label))
        each = [counts[fold] for fold in range(folds)]
        assert max(each) - min(each) <= 1
    assert set(dealt) == set(range(folds))


@given(class_sizes, st.integers(0, 100), st.randoms(), st.booleans())
@settings(deadline=None)
def test_the_order_of_the_files_does_not_matter(
    sizes: dict[str, int], seed: int, random: object, grouped: bool
) -> None:
    items = items_of(sizes | {"a": 10, "b": 10})
    if grouped:
        items = [replace(item, group=f"g{k % 7}" if k % 3 else None) for k, item in enumerate(items)]
    before = dict(zip(items, deal_folds(items, 3, seed), strict=True))
    random.shuffle(items)  # type: ignore[attr-defined]
    assert dict(zip(items, deal_folds(items, 3, seed), strict=True)) == before


def test_seeds_differ() -> None:
    items = items_of({"a": 40, "b": 40})
    assert deal_folds(items, 5, 0) == deal_folds(items, 5, 0)
    assert deal_folds(items, 5, 0) != deal_folds(items, 5, 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=30, max_size=120), st.integers(2, 4))
@settings(deadline=None)
def test_groups_never_cross(rows: list[tuple[int, int]], folds: int) -> None:
    items = [Item((str(k), -1), str(label), f"g{group}") for k, (label, group) in enumerate(rows)]
    try:
        dealt = deal_folds(items, folds, 0)
    except DataError:
        assert len({item.group for item in items}) < 2 * folds  # only few groups can leave a fold empty
        return
    places = defaultdict(set)
    for item, fold in zip(items, dealt, strict=True):
        places[item.group].add(fold)
    assert all(len(there) == 1 for there in places.values())


def test_many_groups_are_nearly_even_in_each_class() -> None:
    """200 groups of 1 to 6 pictures: within a few pictures of the best that whole groups allow."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 7, 200)
    items = [Item((f"{g}-{k}", -1), str(g % 4), f"g{g}") for g, size in enumerate(sizes) for k in range(size)]
    dealt = deal_folds(items, 5, 3)
    for label in "0123":
        counts = Counter(fold for item, fold in zip(items, dealt, strict=True) if item.label == label)
        assert max(counts.values()) - min(counts.values()) <= 2


def test_each_picture_is_tested_once_and_validation_comes_from_the_rest() -> None:
    sets, warnings = fold_sets(a_set([k % 3 for k in range(92)]), 5, 0, 0.1)
    assert warnings == []
    tested = [sample.source for fold in sets for sample in fold.part("test")]
    assert sorted(tested) == sorted(f"{k}.png" for k in range(92))
    for fold in sets:
        assert [sample.source for sample in fold.samples] == [f"{k}.png" for k in range(92)]
        assert (fold.counts()["val"] >= 2).all()
        assert len(fold.part("val")) in range(6, 10)
    again, _ = fold_sets(a_set([k % 3 for k in range(92)]), 5, 0, 0.1)
    assert [fold.samples for fold in again] == [fold.samples for fold in sets]


def test_groups_cross_neither_folds_nor_validation() -> None:
    groups: list[str | None] = [f"g{k // 4}" if k < 80 else None for k in range(100)]
    sets, _ = fold_sets(a_set([k // 4 % 2 for k in range(100)], groups), 4, 1, 0.2)
    for fold in sets:
        places = defaultdict(set)
        for sample in fold.samples:
            places[sample.group].add(sample.split)
        assert all(len(there) == 1 for group, there in places.items() if group is not None)


def test_the_own_test_part_is_in_no_fold(tmp_path: Path) -> None:
    splits = ["test" if k < 20 else "val" if k < 30 else "train" for k in range(100)]
    sets, _ = fold_sets(a_set([k % 2 for k in range(100)], splits=splits), 4, 0, 0.1)
    for fold in sets:
        assert not {f"{k}.png" for k in range(20)} & {sample.source for sample in fold.samples}
        assert {reason for _, reason in fold.dropped} == {HELD_OUT}
        split_csv.write(tmp_path / "split.csv", fold)
        rows = split_csv.read(tmp_path / "split.csv")
        assert len(rows) == 100
        assert sum(row.split == split_csv.SKIPPED for row in rows.values()) == 20
    assert sum(len(fold.part("test")) for fold in sets) == 80  # train and the own val part, dealt out together


def test_a_class_with_fewer_pictures_than_folds_is_said() -> None:
    sets, warnings = fold_sets(a_set([0] * 30 + [1] * 30 + [2] * 3), 5, 0, 0.1)
    assert "1 of 3 classes are in fewer than 5 folds" in warnings[0]
    assert "class 2" in warnings[0]
    assert all(fold.counts()["train"].all() for fold in sets)


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 1.*\n.*two pictures"):
        fold_sets(a_set([0] * 30 + [1]), 3, 0, 0.1)
    groups: list[str | None] = [f"g{k}" for k in range(10)] + ["alone"] * 10
    with pytest.raises(DataError, match=r"class 1.*\n.*more than one group"):
        fold_sets(a_set([0] * 10 + [1] * 10, groups), 3, 0, 0.1)
    with pytest.raises(DataError, match="2 groups are fewer than 3 folds"):
        fold_sets(a_set([0, 1] * 10, ["a"] * 10 + ["b"] * 10), 3, 0, 0.1)
    for folds in (1, 0, 2.5):
        with pytest.raises(UsageError, match="2 or more"):
            fold_sets(a_set([0, 1] * 10), folds, 0, 0.1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed"):
        fold_sets(a_set([0, 1] * 10), 2, -1, 0.1)


def test_folds_of_the_training_part_touch_nothing_else() -> None:
    """Each training picture is held out once; what was there to validate and to test is in neither part."""
    splits = (["train"] * 4 + ["val", "test"]) * 6
    samples = a_set([k % 3 for k in range(36)], splits=splits)
    sets = training_folds(samples, 3, seed=1)
    trained = {sample.source for sample in samples.part("train")}
    for each in sets:
        fit, held = ({sample.source for sample in each.part(part)} for part in ("train", "val"))
        assert fit | held == trained
        assert not fit & held
    assert sorted(sample.source for each in sets for sample in each.part("val")) == sorted(trained)
    with pytest.raises(DataError, match="all their pictures in one fold"):
        training_folds(a_set([0, 0, 0, 0, 1]), 2, seed=1)
