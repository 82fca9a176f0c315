from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.samples.conftest import save_picture

from resight.errors import DataError
from resight.samples import SampleSet, cells, load, split_csv
from resight.samples.model import NO_LABEL
from resight.samples.multilabel_splits import carve_multilabel
from resight.samples.splits import Item


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("", ()),
        ("  ", ()),
        ("cat", ("cat",)),
        ("cat|dog", ("cat", "dog")),
        (" cat | dog ", ("cat", "dog")),
        (r"black\|white|dog", ("black|white", "dog")),
        (r"a\b|c\\", ("a\\b", "c\\")),
        ("cat;dog", ("cat;dog",)),
    ],
)
def test_cells(cell: str, names: tuple[str, ...]) -> None:
    assert cells.split(cell) == names


@pytest.mark.parametrize("cell", ["cat||dog", "|cat", "cat|", "cat|cat", "cat| cat"])
def test_cells_that_say_nothing_clear(cell: str) -> None:
    with pytest.raises(ValueError, match="named twice" if cell.count("cat") > 1 else "empty name"):
        cells.split(cell)


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), unique=True))
def test_names_come_back(names: list[str]) -> None:
    assert cells.split(cells.join(names)) == tuple(names)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k in range(8):
        save_picture(tmp_path / f"{k}.png")
    return tmp_path


def table(root: Path, text: str) -> Path:
    path = root / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(root: Path, text: str) -> SampleSet:
    return load(table(root, text), val_fraction=0, test_fraction=0)


def test_a_table_of_labels(root: Path) -> None:
    found = read(root, "path,labels\n0.png,dog|cat\n1.png,\n2.png,cat\n")
    assert (found.task, found.classes, found.kind) == ("multi", ("cat", "dog"), "csv")
    assert [sample.each for sample in found.samples] == [(0, 1), (), (0,)]
    assert {sample.label for sample in found.samples} == {NO_LABEL}
    assert found.targets(found.samples).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert [found.label_text(sample) for sample in found.samples] == ["cat|dog", "", "cat"]
    assert found.counts()["train"].tolist() == [2, 1]
    assert any(text.startswith("1 of 3 pictures have no label") for text in found.warnings)


def test_a_column_for_each_class(root: Path) -> None:
    found = read(root, "path,Dog,cat,bird\n0.png,1,1,0\n1.png,0, 0,0\n2.png,0,1,0\n")
    assert found.task == "multi"
    assert found.classes == ("bird", "cat", "Dog")  # bird too, which no picture has
    assert found.targets(found.samples).tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 0]]
    assert any("no pictures at all in train: bird" in text for text in found.warnings)


def test_group_is_ours_beside_columns_of_classes(root: Path) -> None:
    """In any case, with names of groups in it: not a class, and 0 and 1 among them are names, too."""
    found = read(root, "path,cat,dog,Group\n0.png,1,1,a\n1.png,0,1,1\n2.png,1,0,0\n")
    assert found.classes == ("cat", "dog")
    assert [sample.group for sample in found.samples] == ["a", "1", "0"]


def test_one_class_is_enough_to_be_there_or_not(root: Path) -> None:
    assert read(root, "path,labels\n0.png,cat\n1.png,\n").classes == ("cat",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,labels\n0.png,a,a\n", "expected a header"),
        ("path,labels,cat\n0.png,a,1\n", "rename or remove: cat"),
        ("path,lable\n0.png,a\n", "rename or remove: lable"),
        ("path,cat,dog\n0.png,1,yes\n", "line 2: dog is 'yes'; expected 1 where the picture has this class"),
        ("path,cat,dog,Group\n0.png,1,0,1\n1.png,0,1,0\n", "the column group has 0 and 1 only, as a class has"),
        ("path,cat,Split,dog\n0.png,1,0,1\n", "the split is '0'"),
        ("path,cat,Path,dog\n0.png,1,0,1\n", "expected a header"),
        ("path,cat,dog\n0.png,1,-1\n", "dog is '-1'"),
        ("path,labels\n0.png,cat||dog\n", "line 2: the labels are 'cat||dog': there is an empty name"),
        ("path,labels\n0.png,cat|cat\n", "'cat' is named twice"),
        ("path,labels\n0.png,\n1.png,\n", "no labelled pictures"),
        ("path,labels\n0.png,a|b\n0.png,a\n", "line 3: 0.png is there already, in line 2, with another label"),
        ("path,labels,split\n0.png,a,train\n1.png,a|b,val\n", "1 classes are in val but not in train: b"),
    ],
)
def test_wrong_tables(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(root, text)
    assert message in str(caught.value)


def test_another_separator_is_doubted(root: Path) -> None:
    found = read(root, "path,labels\n0.png,cat;dog\n1.png,cat\n")
    assert any("while | separates: cat;dog" in text for text in found.warnings)


def test_split_csv_comes_back_and_remembers_the_task(root: Path) -> None:
    several = read(root, "path,labels\n0.png,b\\|c|a\n1.png,\n2.png,a\n")
    split_csv.write(root / "split.csv", several)
    assert (root / "split.csv").read_text().splitlines()[:2] == [
        '"source","index","labels","split","group"',
        r'"0.png","","a|b\|c","train",""',
    ]
    again = load(root / "data.csv", split_csv=root / "split.csv")
    assert again.samples == several.samples
    table(root, "path,labels\n0.png,b\\|c\n1.png,\n2.png,a\n")
    with pytest.raises(DataError, match=r"1 with another label: 0\.png \(a\|b\\\|c → b\\\|c\)"):
        load(root / "data.csv", split_csv=root / "split.csv")
    table(root, "path,label\n0.png,b\n1.png,a\n2.png,a\n")
    with pytest.raises(DataError, match="pictures had any number of labels each, and now have one label each"):
        load(root / "data.csv", split_csv=root / "split.csv")


def test_the_order_of_names_is_that_of_the_classes(root: Path) -> None:
    several = read(root, "path,labels\n0.png,b10|b9|T|a\n1.png,a\n2.png,T|b10\n")
    assert several.classes == ("a", "b9", "b10", "T")
    split_csv.write(root / "split.csv", several)
    table(root, "path,labels\n2.png,b10|T\n0.png,T|a|b9|b10\n1.png,a\n")  # the same, written otherwise
    again = load(root / "data.csv", split_csv=root / "split.csv")
    assert sorted(again.samples, key=lambda s: s.source) == list(several.samples)
    assert again.fingerprint() == several.fingerprint()


def test_the_fingerprint_tells_labels_apart(root: Path) -> None:
    texts = ["0.png,a|b\n1.png,\n", "0.png,a\n1.png,b\n", "0.png,\n1.png,a|b\n"]
    assert len({read(root, f"path,labels\n{text}").fingerprint() for text in texts}) == 3
    one = read(root, "path,labels\n0.png,a\n1.png,b\n").fingerprint()
    assert one != read(root, "path,label\n0.png,a\n1.png,b\n").fingerprint()


def random_items(count: int, seed: int, groups: int = 0) -> list[Item]:
    """Labels that come together, some rare: of 8 classes, on 2 to 40 % of the pictures."""
    random = np.random.default_rng(seed)
    rates = 0.4 * 0.65 ** np.arange(8)
    chosen = random.random((count, 8)) < rates
    chosen[:, 5] |= chosen[:, 4] & (random.random(count) < 0.7)
    names = [f"group {random.integers(groups)}" if groups else None for _ in range(count)]
    return [
        Item((f"{k}.png", -1), "", names[k], tuple(f"class {j}" for j in np.flatnonzero(row)))
        for k, row in enumerate(chosen)
    ]


FRACTIONS = {"val": 0.1, "test": 0.2}


def unevenness(items: list[Item], parts: list[str]) -> float:
    """Label distribution of Sechidis et al. 2011, equation 1: mean difference of the odds of a label in a part and in
    all pictures.
    """
    have = np.array([[f"class {k}" in (item.labels or ()) for k in range(8)] for item in items])
    total, found = have.sum(axis=0), []
    for part in ("train", *FRACTIONS):
        own = have[np.array(parts) == part]
        share = own.sum(axis=0)
        found.append(np.abs(share / (len(own) - share) - total / (len(items) - total)))
    return float(np.mean(found))


def test_splits_are_stratified_by_label() -> None:
    items = random_items(1000, 3)
    parts, warnings = carve_multilabel(items, FRACTIONS, 0)
    assert not warnings
    sizes = Counter(parts)
    assert abs(sizes["val"] - 100) <= 4
    assert abs(sizes["test"] - 200) <= 4
    for k in range(8):
        own = [part for item, part in zip(items, parts, strict=True) if f"class {k}" in (item.labels or ())]
        for part, share in FRACTIONS.items():
            assert abs(own.count(part) - share * len(own)) <= 1.5
    drawn = [
        unevenness(items, np.random.default_rng(s).choice(["train", *FRACTIONS], 1000, p=[0.7, 0.1, 0.2]).tolist())
        for s in range(20)
    ]
    assert unevenness(items, parts) < min(drawn) / 3


def test_splits_depend_on_the_seed_and_on_nothing_else() -> None:
    items = random_items(200, 1)
    parts = dict(zip((item.key for item in items), carve_multilabel(items, FRACTIONS, 5)[0], strict=True))
    turned = items[::-1]
    assert dict(zip((item.key for item in turned), carve_multilabel(turned, FRACTIONS, 5)[0], strict=True)) == parts
    assert list(parts.values()) != carve_multilabel(items, FRACTIONS, 6)[0]


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_cross_and_each_class_is_trained(seed: int) -> None:
    items = random_items(120, seed, groups=25)
    parts, _ = carve_multilabel(items, FRACTIONS, seed)
    for group in {item.group for item in items}:
        assert len({part for item, part in zip(items, parts, strict=True) if item.group == group}) == 1
    trained = {name for item, part in zip(items, parts, strict=True) if part == "train" for name in item.labels or ()}
    assert trained == {name for item in items for name in item.labels or ()}


def test_too_few_pictures_of_a_class_are_warned_of() -> None:
    items = [Item((f"{k}.png", -1), "", None, ("often",)) for k in range(30)]
    items += [Item(("rare.png", -1), "", None, ("often", "rare"))]
    parts, warnings = carve_multilabel(items, FRACTIONS, 0)
    assert parts[-1] == "train"
    assert [text.split(" to ")[-1] for text in warnings] == ["val: rare", "test: rare"]


def test_pictures_with_no_label_are_shared_out_too() -> None:
    items = [Item((f"{k}.png", -1), "", None, ()) for k in range(100)]
    assert Counter(carve_multilabel(items, FRACTIONS, 0)[0]) == {"train": 70, "val": 10, "test": 20}
