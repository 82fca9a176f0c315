"""SampleSet: reading, fingerprint, dropping, split.csv, pickling."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import resight.samples
from resight.errors import DataError, StorageError, UndecodableImage, UsageError
from resight.samples import Sample, SampleSet, load, natural_key, split_csv

from .conftest import MakeImages, save_picture

HOSTILE = [
    "quote\"s and 'quotes'",
    "new\nline",
    "carriage\rreturn",
    "right\u202eto left",
    "<script>alert(1)<script>",
    "=cmd|' C calc'!A0",
    "comma,semi;colon",
    " spaces ",
    "ünïcödé 苹果",
    "tab\there",
    "100%",
    "-rf",
    "back\\slash",
]


def hostile_set(root: Path) -> SampleSet:
    for number, name in enumerate(HOSTILE):
        for seed in range(3):
            save_picture(root / name / f"{name}{seed}.png", seed=number)
    return load(root)


def test_hostile_names_survive_exactly(tmp_path: Path) -> None:
    samples = hostile_set(tmp_path / "data")
    assert samples.classes == tuple(sorted(HOSTILE, key=natural_key))
    assert all(samples.read(sample).shape == (6, 8, 3) for sample in samples.samples)
    samples = samples.without([(samples.part("val")[0].source, "because, \n so")])
    split_csv.write(tmp_path / "split.csv", samples)
    assert load(tmp_path / "data", split_csv=tmp_path / "split.csv", seed=9).samples == samples.samples


@pytest.mark.skipif(os.name != "posix", reason="names that are no text need POSIX")
def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "data")
    for name in (b"caf\xe9", b"tea"):
        os.makedirs(root + b"/" + name)
        for number in range(3):
            save_picture(Path(os.fsdecode(root + b"/" + name + b"/%d.png" % number)))
    samples = load(tmp_path / "data")
    assert samples.classes == ("caf\udce9", "tea")
    assert len(samples.fingerprint()) == 64
    split_csv.write(tmp_path / "split.csv", samples)
    assert load(tmp_path / "data", split_csv=tmp_path / "split.csv").samples == samples.samples


def test_part_and_counts(make_images: MakeImages) -> None:
    samples = load(make_images({"a": 10, "b": 20}))
    assert samples.part("train") + samples.part("val") + samples.part("test") != []
    assert {split: count.tolist() for split, count in samples.counts().items()} == {
        "train": [8, 16],
        "val": [1, 2],
        "test": [1, 2],
    }
    with pytest.raises(UsageError, match="'validation'"):
        samples.part("validation")


def test_errors_name_the_file_within_the_set(make_images: MakeImages) -> None:
    root = make_images({"a": 3, "b": 3})
    (root / "a" / "1.png").write_bytes((root / "a" / "1.png").read_bytes()[:50])
    samples = load(root)
    sample = next(sample for sample in samples.samples if sample.source == "a/1.png")
    with pytest.raises(UndecodableImage, match=r"^a/1\.png: "):
        samples.read(sample)


def test_fingerprint_notices_every_change(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images({"a": 5, "b": 5, "c": 5})
    before = load(root).fingerprint()
    assert load(root).fingerprint() == before
    assert load(root, seed=1).fingerprint() != before
    seen = {before}
    for change in (
        lambda: (root / "a" / "0.png").rename(root / "b" / "9.png"),
        lambda: save_picture(root / "c" / "new.png"),
        lambda: (root / "c" / "1.png").unlink(),
        lambda: save_picture(root / "c" / "2.png", fmt="BMP"),
        lambda: (root / "c").rename(root / "d"),
    ):
        change()
        seen.add(load(root).fingerprint())
    assert len(seen) == 6
    elsewhere = tmp_path / "moved"
    last = load(root).fingerprint()
    root.rename(elsewhere)
    assert load(elsewhere).fingerprint() == last  # the same data at another place


def test_spawned_workers_read_the_same(make_images: MakeImages) -> None:
    samples = load(make_images({"a": 3, "b": 3}))
    assert pickle.loads(pickle.dumps(samples)) == samples
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        picture = pool.submit(samples.read, samples.samples[0]).result(timeout=60)
    np.testing.assert_array_equal(picture, samples.read(samples.samples[0]))


def count_reads(path: Path) -> np.ndarray:
    with open(path, "ab") as stream:
        stream.write(b"x")
    return np.full((2, 3, 4, 1), 7, np.uint8)


def test_an_array_file_is_opened_once(tmp_path: Path) -> None:
    samples = SampleSet(tmp_path, ("a", "b"), (Sample("array", 1, 0, "train"),), 1, "idx", read_array=count_reads)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda _: samples.read(samples.samples[0], 1), range(32)))
    assert all(picture.shape == (3, 4, 1) for picture in pictures)
    assert (tmp_path / "array").read_bytes() == b"x"
    assert len(pickle.dumps(samples)) < 1000


def test_without(make_images: MakeImages) -> None:
    samples = load(make_images({"a": 3, "b": 1}))
    gone = next(sample for sample in samples.samples if sample.label == 0 and sample.split == "val")
    fewer = samples.without([(gone.source, "cut off")])
    assert fewer.dropped == ((gone, "cut off"),)
    assert set(fewer.samples) == set(samples.samples) - {gone}
    assert samples.without([]) == samples
    with pytest.raises(DataError, match=r"not in the data set: a/99\.png"):
        samples.without([("a/99.png", "")])
    with pytest.raises(DataError, match="no training picture: b"):
        samples.without([("b/0.png", "")])


def test_split_csv_refuses_changed_data(make_images: MakeImages, tmp_path: Path) -> None:
    root, path = make_images({"a": 5, "b": 5, "c": 5}), tmp_path / "split.csv"
    split_csv.write(path, load(root, seed=3))
    assert load(root, split_csv=path) == load(root, seed=3)
    (root / "a" / "0.png").unlink()
    save_picture(root / "b" / "new.png")
    with pytest.raises(DataError) as caught:
        load(root, split_csv=path)
    assert "1 added: b/new.png; 1 missing: a/0.png" in str(caught.value)


def test_split_csv_refuses_other_labels(make_images: MakeImages, tmp_path: Path) -> None:
    root, path = make_images({"p": 3}), tmp_path / "split.csv"
    (root / "t.csv").write_text("path,label\np/0.png,a\np/1.png,a\np/2.png,b\n")
    split_csv.write(path, load(root / "t.csv"))
    (root / "t.csv").write_text("path,label\np/0.png,a\np/1.png,b\np/2.png,b\n")
    with pytest.raises(DataError, match=r"1 with another label: p/1\.png \(a → b\)"):
        load(root / "t.csv", split_csv=path)


HEADER = "source,index,label,split,group\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header is ''"),
        ("path,label\n", "the header is 'path,label'"),
        (HEADER + "a,,b,train\n", "line 2: found 4 fields"),
        (HEADER + "a,,b,holdout,\n", "the split is 'holdout'"),
        (HEADER + "a,-1,b,train,\n", "the index is '-1'"),
        (HEADER + "a,1,b,train,\na,1,b,val,\n", "line 3: a is there twice"),
    ],
)
def test_split_csv_of_another_kind(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        split_csv.read(path)
    assert message in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        split_csv.read(tmp_path / "missing.csv")


def test_split_csv_that_cannot_be_written(make_images: MakeImages, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        split_csv.write(tmp_path / "no" / "split.csv", load(make_images({"a": 3, "b": 3})))


def test_exported_names_are_there() -> None:
    assert all(hasattr(resight.samples, name) for name in resight.samples.__all__)
