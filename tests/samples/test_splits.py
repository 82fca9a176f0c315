"""Carving: nothing lost, nothing twice, groups whole, classes in proportion, the same every time."""

from __future__ import annotations

import tracemalloc
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import UsageError
from resight.samples.splits import Item, carve

FRACTIONS = {"val": 0.1, "test": 0.2}

class_sizes = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 60), min_size=1, max_size=5)


def items_of(sizes: dict[str, int]) -> list[Item]:
    return [Item((f"{label}/{number}", -1), label) for label, size in sizes.items() for number in range(size)]


@given(class_sizes, st.integers(0, 2**32), st.floats(0, 0.45), st.floats(0, 0.45))
@settings(deadline=None)
def test_stratified(sizes: dict[str, int], seed: int, val: float, test: float) -> None:
    items = items_of(sizes)
    parts, warnings = carve(items, {"val": val, "test": test}, seed)
    assert len(parts) == len(items)
    counts = Counter((item.label, part) for item, part in zip(items, parts, strict=True))
    small = False
    for label, size in sizes.items():
        assert counts[label, "train"] >= 1
        for part, share in (("val", val), ("test", test)):
            found = counts[label, part]
            if share == 0:
                assert found == 0
            elif size > 10:
                assert found == max(1, int(size * share + 0.5))
            small |= share > 0 and found == 0
    assert bool(warnings) == small


@given(class_sizes, st.integers(0, 1000), st.randoms())
@settings(deadline=None)
def test_order_and_other_classes_do_not_matter(sizes: dict[str, int], seed: int, random: object) -> None:
    items = items_of(sizes)
    before = dict(zip(items, carve(items, FRACTIONS, seed)[0], strict=True))
    shuffled = items + items_of({"a class of its own": 7})
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    after = dict(zip(shuffled, carve(shuffled, FRACTIONS, seed)[0], strict=True))
    assert all(after[item] == part for item, part in before.items())


def test_seeds_differ() -> None:
    items = items_of({"a": 50, "b": 50})
    assert carve(items, FRACTIONS, 0) == carve(items, FRACTIONS, 0)
    assert carve(items, FRACTIONS, 0) != carve(items, FRACTIONS, 1)


grouped = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 12).map(str)), min_size=1, max_size=80)


@given(grouped, st.integers(0, 1000))
@settings(deadline=None)
def test_groups_stay_whole(rows: list[tuple[str, str | None]], seed: int) -> None:
    items = [Item((str(number), -1), label, group) for number, (label, group) in enumerate(rows)]
    parts, _ = carve(items, FRACTIONS, seed)
    assert len(parts) == len(items)
    assert set(parts) <= {"train", "val", "test"}
    places = defaultdict(set)
    for item, part in zip(items, parts, strict=True):
        if item.group is not None:
            places[item.group].add(part)
    assert all(len(found) == 1 for found in places.values())
    trained = {item.label for item, part in zip(items, parts, strict=True) if part == "train"}
    assert trained == {item.label for item in items}
    backwards, _ = carve(items[::-1], FRACTIONS, seed)
    assert backwards[::-1] == parts


def test_a_class_in_large_groups_only_is_still_trained() -> None:
    groups = {"0": "ec", "3": "da", "5": "d", "1": "d"}
    items = [Item((group + label, -1), label, group) for group, labels in groups.items() for label in labels]
    parts, _ = carve(items, {"val": 0.3, "test": 0.4}, 0)
    assert {item.label for item, part in zip(items, parts, strict=True) if part == "train"} == set("acde")


def test_many_groups_and_classes_need_little_memory() -> None:
    """A table of groups and classes would be 20,000 × 1,000 numbers: 160 MB."""
    items = [Item((str(number), -1), str(number % 1000), "g" if number < 100 else None) for number in range(20_000)]
    tracemalloc.start()
    try:
        parts, warnings = carve(items, {"val": 0.1, "test": 0.1}, 0)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()
    assert len({item.label for item, part in zip(items, parts, strict=True) if part == "train"}) == 1000
    assert [Counter(parts)[part] for part in ("train", "val", "test")] == [16_000, 2_000, 2_000]
    assert warnings == []


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_stratified(seed: int) -> None:
    """200 patients with 1 to 5 pictures each of two classes, one rarer: shares within 2 points of what was
    asked.
    """
    items = [
        Item((f"{patient}-{number}", -1), "ill" if patient % 4 == 0 else "well", str(patient))
        for patient in range(200)
        for number in range(1 + patient % 5)
    ]
    parts, warnings = carve(items, FRACTIONS, seed)
    counts = Counter((item.label, part) for item, part in zip(items, parts, strict=True))
    for label in ("ill", "well"):
        total = sum(counts[label, part] for part in ("train", "val", "test"))
        for part, share in FRACTIONS.items():
            assert abs(counts[label, part] / total - share) < 0.02
    assert warnings == []


def test_small_classes_are_named() -> None:
    parts, warnings = carve(items_of({"one": 1, "two": 2, "many": 20}), FRACTIONS, 0)
    assert parts[:3].count("train") == 2
    assert warnings == [
        "1 of 3 classes have too few pictures to give any to val: one",
        "2 of 3 classes have too few pictures to give any to test: one, two",
    ]


@pytest.mark.parametrize("fractions", [{"val": 1.0}, {"val": -0.1}, {"val": 0.5, "test": 0.5}, {"val": float("nan")}])
def test_impossible_fractions(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        carve(items_of({"a": 5}), fractions, 0)


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_impossible_seed(seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        carve(items_of({"a": 5}), FRACTIONS, seed)
