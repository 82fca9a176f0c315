"""CSV tables: what is read, and which line is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from resight.errors import DataError
from resight.samples import SampleSet, load

from .conftest import MakeImages, save_picture


@pytest.fixture
def root(make_images: MakeImages) -> Path:
    return make_images({"pictures": 12})


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def found(samples: SampleSet) -> list[tuple[str, str, str, str | None]]:
    return [(s.source, samples.classes[s.label], s.split, s.group) for s in samples.samples]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_columns(root: Path, encoding: str, newline: str) -> None:
    lines = [
        "Group, label,split,path",
        "g1,Köter 10,train,pictures/0.png",
        "g1,Köter 10,Training,./pictures/1.png",
        '"g,2",Köter 2,valid,pictures/2.png',
        "g3,Köter 2,test,pictures/../pictures/3.png",
        "g4,Köter 2,train,pictures/4.png",
        "",
    ]
    samples = load(table(root, newline.join(lines), encoding))
    assert samples.kind == "csv"
    assert samples.classes == ("Köter 2", "Köter 10")
    assert found(samples) == [
        ("pictures/0.png", "Köter 10", "train", "g1"),
        ("pictures/1.png", "Köter 10", "train", "g1"),
        ("pictures/2.png", "Köter 2", "val", "g,2"),
        ("pictures/3.png", "Köter 2", "test", "g3"),
        ("pictures/4.png", "Köter 2", "train", "g4"),
    ]
    assert samples.read(samples.samples[0], 1).shape == (6, 8, 1)


def test_missing_splits_are_carved_by_group(root: Path) -> None:
    lines = ["path,label,group"] + [f"pictures/{n}.png,{'ab'[n % 2]},{n // 2}" for n in range(12)]
    samples = load(table(root, "\n".join(lines)), val_fraction=0.2, test_fraction=0.2)
    splits: dict[str | None, set[str]] = {}
    for _, _, split, group in found(samples):
        splits.setdefault(group, set()).add(split)
    assert sorted(len(names) for names in splits.values()) == [1] * 6
    assert {split: len(samples.part(split)) for split in ("train", "val", "test")} == {
        "train": 8,
        "val": 2,
        "test": 2,
    }


def test_an_empty_split_is_train_or_that_of_the_group(root: Path) -> None:
    lines = [
        "path,label,split,group",
        "pictures/0.png,a,,",
        "pictures/1.png,b,,",
        "pictures/2.png,a,val,x",
        "pictures/3.png,a,,x",
        "pictures/4.png,b,test,",
    ]
    samples = load(table(root, "\n".join(lines)))
    assert [split for _, _, split, _ in found(samples)] == ["train", "train", "val", "val", "test"]


def test_repeated_lines_count_once(root: Path) -> None:
    samples = load(table(root, "path,label\npictures/0.png,a\npictures/1.png,b\n./pictures/0.png,a\n"))
    assert len(samples) == 2
    assert "1 repeated lines count once: pictures/0.png" in samples.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header with the columns path,label"),
        ("pictures/0.png,a\n", "first line is 'pictures/0.png,a'"),
        ("path;label\npictures/0.png;a\n", "separated by commas"),
        ("path,label,path\n", "first line is"),
        ("path,label,weight\npictures/0.png,a,1\n", "rename or remove: weight"),
        ("path,label\npictures/0.png,a,b\n", "line 2: found 3 fields; expected 2"),
        ("path,label\npictures/0.png,\n", "line 2: the label is empty"),
        ("path,label\n,a\n", "line 2: the path is empty"),
        (
            "path,label\npictures/0.png,a\npictures/99.png,b\n",
            "1 of 2 files do not exist: line 3: pictures/99.png",
        ),
        (
            "path,label\npictures/0.png,a\npictures/0.png,b\n",
            "line 3: pictures/0.png is there already, in line 2",
        ),
        ("path,label\npictures/0.png,a\npictures/1.png,a\n", "only one class"),
        ("path,label\n", "no labelled pictures"),
        ("path,label,split\npictures/0.png,a,holdout\n", "the split is 'holdout'"),
        (
            "path,label,split,group\npictures/0.png,a,train,g\npictures/1.png,b,test,g\n",
            "'g' is in both train and test",
        ),
        ("path,label\n../secret.png,a\n", "line 2: ../secret.png is outside"),
        ("path,label\n/etc/passwd,a\n", "line 2: /etc/passwd is outside"),
        ("path,label\npictures/../../secret.png,a\n", "is outside"),
        ('path,label\n"pictures/0.png,a\n', "not valid CSV"),
    ],
)
def test_wrong_tables(root: Path, text: str, message: str) -> None:
    save_picture(root.parent / "secret.png")
    with pytest.raises(DataError) as caught:
        load(table(root, text))
    assert message in str(caught.value)


def test_other_encodings_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8") as caught:
        load(table(root, "path,label\npictures/0.png,Köter\n", "latin-1"))
    assert caught.value.hint == "save it as CSV UTF-8"


def test_links_and_absolute_paths(root: Path, tmp_path: Path) -> None:
    save_picture(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    for path in ("link.png", "folder/secret.png"):
        with pytest.raises(DataError, match="leads out of"):
            load(table(root, f"path,label\n{path},a\n"))
    inside = root / "pictures" / "0.png"
    assert load(table(root, f"path,label\n{inside},a\npictures/1.png,b\n")).samples[0].source == "pictures/0.png"


def test_for_evaluation_a_test_part_alone_will_do(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text("path,label,split\n1.png,a,test\n", "utf-8")
    with pytest.raises(DataError, match="only one class"):
        load(tmp_path / "t.csv")
    samples = load(tmp_path / "t.csv", training=False)
    assert (samples.classes, [sample.split for sample in samples.samples]) == (("a",), ["test"])
