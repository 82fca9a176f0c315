"""Folder layouts: right, wrong, and nearly right."""

from __future__ import annotations

from pathlib import Path

import pytest

from resight.errors import DataError, UsageError
from resight.samples import load

from .conftest import MakeImages, save_picture


def test_real_photos(clothing: Path) -> None:
    samples = load(clothing)
    assert samples.kind == "split-folders"
    assert samples.classes[:3] == ("dress", "hat", "longsleeve")
    counts = samples.counts()
    assert (counts["train"].sum(), counts["val"].sum(), counts["test"].sum()) == (900, 341, 100)
    assert all(sample.source.startswith("val/") == (sample.split == "val") for sample in samples.samples)
    assert samples.read(samples.samples[0], 3).shape[2] == 3
    assert samples.warnings == ()


def test_folder_of_classes(make_images: MakeImages) -> None:
    root = make_images({"10": 10, "2": 10, "1/deep/er": 10})
    samples = load(root)
    assert samples.kind == "folder"
    assert samples.classes == ("1", "2", "10")
    assert samples.channels is None
    assert {split: count.tolist() for split, count in samples.counts().items()} == {
        "train": [8, 8, 8],
        "val": [1, 1, 1],
        "test": [1, 1, 1],
    }
    assert samples.samples[0].source == "1/deep/er/0.png"
    assert samples.warnings == ()


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "VALID", "validation", "dev"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_spellings_of_splits(make_images: MakeImages, train: str, val: str, test: str) -> None:
    sizes = {train: 2, val: 1, test: 3}
    root = make_images({f"{split}/{name}": size for split, size in sizes.items() for name in ("a", "b")})
    samples = load(root)
    assert {split: count.tolist() for split, count in samples.counts().items()} == {
        "train": [2, 2],
        "val": [1, 1],
        "test": [3, 3],
    }


@pytest.mark.parametrize("given", ["val", "test"])
def test_the_missing_split_comes_from_train(make_images: MakeImages, given: str) -> None:
    root = make_images({f"{split}/{name}": 10 for split in ("train", given) for name in ("a", "b")})
    samples = load(root, val_fraction=0.2, test_fraction=0.3)
    carved, taken = ("test", 3) if given == "val" else ("val", 2)
    counts = {split: count.tolist() for split, count in samples.counts().items()}
    assert counts == {"train": [10 - taken] * 2, given: [10, 10], carved: [taken] * 2}
    assert all(sample.source.startswith("train/") for sample in samples.part(carved))


def test_only_train(make_images: MakeImages) -> None:
    samples = load(make_images({"train/a": 10, "train/b": 10}))
    assert [len(samples.part(split)) for split in ("train", "val", "test")] == [16, 2, 2]


def test_a_class_may_be_called_train(make_images: MakeImages) -> None:
    assert load(make_images({"train": 3, "bus": 3})).classes == ("bus", "train")


def test_clutter_is_ignored(make_images: MakeImages) -> None:
    root = make_images({"a": 3, "b": 3, ".ipynb_checkpoints": 1, "__MACOSX/a": 1, "a/.hidden": 1})
    for name in ("a/.DS_Store", "b/Thumbs.db", "a/._0.png", "desktop.ini"):
        (root / name).write_bytes(b"x")
    samples = load(root)
    assert len(samples) == 6
    assert samples.classes == ("a", "b")
    assert samples.warnings == ()


def test_what_is_left_out_is_said(make_images: MakeImages) -> None:
    root = make_images({"a": 3, "b": 3})
    for name in ("a/notes.txt", "a/cat.heic", "b/label", "b/photo.HEIC"):
        (root / name).write_bytes(b"x")
    save_picture(root / "logo.png")
    samples = load(root)
    assert len(samples) == 6
    stray, unread, others = samples.warnings
    assert "1 pictures directly in data" in stray
    assert "2 pictures of kinds" in unread
    assert "2 × .heic" in unread
    assert "2 files are not pictures" in others
    assert "1 × no extension" in others


def test_unlabelled_test_folder(make_images: MakeImages) -> None:
    samples = load(make_images({"train/a": 10, "train/b": 10, "test": 5}))
    assert len(samples.part("test")) == 2
    assert "no labels" in samples.warnings[0]


@pytest.mark.parametrize(
    ("counts", "found", "hint"),
    [
        ({}, "an empty folder", ""),
        ({"": 4}, "4 pictures directly in it and no folders", "one folder for each class"),
        ({"a": 3}, "only one class", "second class"),
        ({"a": 3, "b": 0}, "only one class with pictures: .* a: 3, b: 0", "second class"),
        ({"a": 3, "b": 3, "c": 0}, "1 class folders without pictures: c", "remove them"),
        ({"a": 0, "b": 0}, "0 pictures directly", ""),
        ({"train/a": 3, "train/b": 0}, "1 class folders without pictures: b", ""),
        (
            {"flowers/train/a": 3, "flowers/train/b": 3},
            "1 folders, pictures in each: flowers: 6",
            "give that folder",
        ),
        ({"flowers/a": 3, "flowers/b": 3}, "only one class", "holds 2 folders"),
        ({"cat/train": 3, "cat/test": 1, "dog/train": 3}, "split folder 'train' inside", "come first"),
        ({"train/a": 3, "train/b": 3, "extra/x": 3}, "beside extra", "move the others away"),
        ({"test/a": 3, "test/b": 3}, "none for training", "train"),
        ({"train": 3, "val": 3, "test/x": 3}, "none for training", "train"),
    ],
)
def test_wrong_shapes(make_images: MakeImages, counts: dict[str, int], found: str, hint: str) -> None:
    root = make_images(counts)
    with pytest.raises(DataError, match=found) as caught:
        load(root)
    shown = str(caught.value)
    assert str(root) in shown
    assert "flowers/daisy/1.jpg" in shown
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_two_folders_for_one_split(make_images: MakeImages) -> None:
    root = make_images({f"{split}/{name}": 1 for split in ("train", "val", "valid") for name in "ab"})
    with pytest.raises(DataError, match="both 'val' and 'valid' mean val"):
        load(root)


def test_labels_never_shift(make_images: MakeImages) -> None:
    root = make_images({"train/a": 2, "train/b": 2, "train/c": 2, "val/a": 1, "val/c": 1, "test/b": 1})
    samples = load(root)
    assert [(s.source, s.label) for s in samples.part("val")] == [("val/a/0.png", 0), ("val/c/0.png", 2)]
    assert [(s.source, s.label) for s in samples.part("test")] == [("test/b/0.png", 1)]
    assert "1 classes have no pictures in val: b" in samples.warnings
    assert "2 classes have no pictures in test: a, c" in samples.warnings


def test_a_class_that_training_never_sees(make_images: MakeImages) -> None:
    root = make_images({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dgo": 1})
    with pytest.raises(DataError, match=r"in val but not in train: dgo; train has cat, dog"):
        load(root)


def test_links_never_lead_out(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images({"a": 3, "b": 3})
    save_picture(tmp_path / "secret.png")
    link = root / "a" / "link.png"
    link.symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"link\.png: this link leads out of .*, to .*secret\.png"):
        load(root)
    link.unlink()
    link.symlink_to(root / "nowhere.png")
    with pytest.raises(DataError, match="leads nowhere"):
        load(root)
    link.unlink()
    link.symlink_to(root / "b" / "0.png")
    assert len(load(root)) == 7
    (root / "a" / "loop").symlink_to(root / "a")
    with pytest.raises(DataError, match="links to folders are not followed"):
        load(root)


def test_the_root_itself_may_be_a_link(make_images: MakeImages, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(make_images({"a": 3, "b": 3}))
    samples = load(tmp_path / "link")
    assert samples.read(samples.samples[0]).shape == (6, 8, 3)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set"):
        load(tmp_path / "missing")
    with pytest.raises(UsageError, match="is an address"):
        load("https://example.org/data")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="archive") as caught:
        load(str(tmp_path / "data.zip"))
    assert caught.value.hint == "unpack it first"
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(DataError, match="single file"):
        load(tmp_path / "picture.png")
    with pytest.raises(UsageError, match=r"cannot be opened|no data set"):
        load("a\0b")


def test_for_evaluation_a_test_part_alone_will_do(make_images: MakeImages) -> None:
    root = make_images({"test/a": 3, "test/b": 2, "val": 1})
    with pytest.raises(DataError, match="none for training"):
        load(root)
    samples = load(root, training=False)
    assert [len(samples.part(split)) for split in ("train", "val", "test")] == [0, 0, 5]
    assert samples.classes == ("a", "b")
    assert "no labels" in samples.warnings[0]


def test_for_evaluation_one_class_will_do(make_images: MakeImages) -> None:
    samples = load(make_images({"a": 3, "b": 0}), val_fraction=0, test_fraction=0, training=False)
    assert (samples.classes, len(samples)) == (("a",), 3)
    assert samples.warnings == ("1 class folders hold no pictures: b",)


def test_for_evaluation_classes_need_no_training_pictures(make_images: MakeImages) -> None:
    root = make_images({"train/a": 3, "train/b": 3, "train/d": 0, "test/c": 2})
    samples = load(root, val_fraction=0, training=False)
    assert samples.classes == ("a", "b", "c")
    assert {sample.source[:6] for sample in samples.part("test")} == {"test/c"}
    with pytest.raises(DataError, match="without pictures: d"):
        load(root)


def test_for_evaluation_labels_are_needed_all_the_same(make_images: MakeImages) -> None:
    with pytest.raises(DataError, match="found"):
        load(make_images({"": 3}), training=False)
    with pytest.raises(DataError, match="no labelled pictures"):
        load(make_images({"test/a": 0}, root=make_images({"": 0}) / "empty"), training=False)
