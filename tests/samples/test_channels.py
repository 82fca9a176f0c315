"""Arrays as pictures of a data set, and the check against a number of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.errors import DataError, ImageError, UsageError
from resight.samples import check_files, find_images, load


def write(root: Path, name: str, channels: int) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (6, 5, channels), dtype=np.uint8)
    if name.endswith(".npy"):
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def test_arrays_are_pictures_where_there_are_no_others(tmp_path: Path) -> None:
    for name in ("a/1.npy", "a/2.npy", "b/1.npy", "b/deep/2.npy"):
        write(tmp_path, name, 5)
    write(tmp_path, "legend.png", 3)  # beside the classes: no sample
    samples = load(tmp_path, val_fraction=0, test_fraction=0)
    assert [sample.source for sample in samples.samples] == ["a/1.npy", "a/2.npy", "b/1.npy", "b/deep/2.npy"]
    assert samples.read(samples.samples[0], 5).shape == (6, 5, 5)
    assert len(find_images([tmp_path / "a"])) == 2


@pytest.mark.parametrize("inner", ["", "train/"])
def test_arrays_beside_pictures_are_something_else_and_this_is_said(tmp_path: Path, inner: str) -> None:
    for name in ("a/1.png", "a/1.npy", "b/1.png", "b/2.png"):
        write(tmp_path, inner + name, 3)
    samples = load(tmp_path, val_fraction=0, test_fraction=0)
    assert [sample.source for sample in samples.samples] == [inner + n for n in ("a/1.png", "b/1.png", "b/2.png")]
    assert any("1 × .npy" in warning for warning in samples.warnings)
    assert [path.name for path in find_images([tmp_path / inner / "a"])] == ["1.png"]
    assert [path.name for path in find_images([tmp_path / inner / "a"], arrays=True)] == ["1.npy", "1.png"]
    assert len(find_images([tmp_path / inner / "a" / "1.npy"])) == 1  # what is named itself is taken


def test_a_table_names_its_files(tmp_path: Path) -> None:
    for name in ("1.npy", "2.npy"):
        write(tmp_path, name, 4)
    (tmp_path / "set.csv").write_text("path,label\n1.npy,a\n2.npy,b\n")
    assert len(load(tmp_path / "set.csv", val_fraction=0, test_fraction=0)) == 2


def test_the_check_names_those_that_cannot_be_had_with_so_many(tmp_path: Path) -> None:
    for name, channels in (("a/1.npy", 5), ("a/2.npy", 4), ("b/1.npy", 5), ("b/2.npy", 1)):
        write(tmp_path, name, channels)
    samples = load(tmp_path, val_fraction=0, test_fraction=0)
    report = check_files(samples, threads=2)
    assert report.bad == []
    assert report.channels.tolist() == [5, 4, 5, 1]
    report = check_files(samples, threads=2, channels=5)
    assert [source for source, _ in report.bad] == ["a/2.npy", "b/2.npy"]
    assert all("expected 5" in reason for _, reason in report.bad)
    assert report.channels.tolist() == [5, 5]


def test_array_files_of_a_set_have_their_channels_and_no_others(tmp_path: Path) -> None:
    idx = np.zeros((4, 3, 3), np.uint8).tobytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3)) + idx)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1)))
    samples = load(tmp_path, val_fraction=0, test_fraction=0)
    assert samples.read(samples.samples[0], 3).shape == (3, 3, 3)
    with pytest.raises(ImageError, match="1 channel; expected 4"):
        samples.read(samples.samples[0], 4)
    with pytest.raises(UsageError, match="channels"):
        samples.read(samples.samples[0], 0)
    assert len(check_files(samples, threads=1, channels=4).bad) == 4


# ── classes in a given order, and parts that are known ─────────────────────────────────────────────────────────────


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    for label in "abc":
        for number in range(20):
            write(tmp_path, f"{label}/{number:02d}.png", 3)
    return tmp_path


def test_given_classes_come_first_in_their_order(letters: Path) -> None:
    samples = load(letters, classes=("c", "gone", "a"))
    assert samples.classes == ("c", "gone", "a", "b")
    assert {sample.source[0]: samples.classes[sample.label] for sample in samples.samples} == dict(
        zip("abc", "abc", strict=True)
    )
    assert load(letters, classes=("a", "b", "c")) == load(letters)


def test_known_pictures_keep_their_part_and_the_others_are_dealt_out(letters: Path) -> None:
    known = {(f"a/{n:02d}.png", None): "test" for n in range(8)} | {
        ("b/00.png", None): "val",
        ("b/01.png", None): "train",
    }
    for seed in range(3):
        samples = load(letters, seed=seed, known=known)
        found = {(sample.source, sample.index): sample.split for sample in samples.samples}
        assert {key: found[key] for key in known} == known
        counts = samples.counts()
        assert counts["test"].tolist() == [8 + 1, 2, 2]  # a tenth of the 12, 18 and 20 that are not known
    plain = load(letters)
    assert load(letters, known={("nothing/here.png", None): "test"}) == plain


def test_a_known_picture_takes_its_group_along(letters: Path) -> None:
    lines = ["path,label,group"]
    lines += [f"{label}/{n:02d}.png,{label},{label}{n // 4}" for label in "abc" for n in range(20)]
    (letters / "set.csv").write_text("\n".join(lines))
    samples = load(letters / "set.csv", known={("a/05.png", None): "test"})
    parts = {sample.source: sample.split for sample in samples.samples}
    assert [parts[f"a/0{n}.png"] for n in (4, 5, 6, 7)] == ["test"] * 4
    for group in {sample.group for sample in samples.samples}:
        assert len({sample.split for sample in samples.samples if sample.group == group}) == 1


def test_what_the_layout_says_goes_before_what_is_known(tmp_path: Path) -> None:
    for part, numbers in (("train", range(10)), ("test", range(10, 12))):
        for label in "ab":
            for number in numbers:
                write(tmp_path, f"{part}/{label}/{number}.png", 3)
    known = {("train/a/0.png", None): "test", ("train/a/1.png", None): "val", ("test/a/10.png", None): "train"}
    parts = {sample.source: sample.split for sample in load(tmp_path, known=known).samples}
    assert parts["train/a/0.png"] == "train"  # there is a test folder: this picture was put beside it
    assert parts["train/a/1.png"] == "val"  # validation is carved, so what is known counts
    assert parts["test/a/10.png"] == "test"


def test_a_set_whose_arrays_are_no_pictures_says_so(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        np.save(tmp_path / label / "x.npy", np.zeros((4, 4), np.float32))
    report = check_files(load(tmp_path, val_fraction=0, test_fraction=0), threads=1)
    assert all("float32" in reason for _, reason in report.bad)
    assert len(report.bad) == 2
    with pytest.raises(DataError):
        load(tmp_path / "a")
