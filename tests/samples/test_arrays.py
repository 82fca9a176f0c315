"""idx and binary CIFAR: what is read, and headers that lie."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from resight.errors import DataError
from resight.samples import check_files, load


def idx(values: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 7), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


@pytest.fixture(params=["{}-{}-idx{}-ubyte", "{}-{}-idx{}-ubyte.gz", "{}-{}.idx{}-ubyte", "emnist-x-{}-{}-idx{}-ubyte"])
def mnist(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for split, part in (("train", slice(0, 32)), ("t10k", slice(32, 40))):
        write(tmp_path / "raw" / request.param.format(split, "images", 3), idx(IMAGES[part]))
        write(tmp_path / "raw" / request.param.format(split, "labels", 1), idx(LABELS[part]))
    return tmp_path / "raw"


def test_idx(mnist: Path) -> None:
    samples = load(mnist)
    assert (samples.kind, samples.channels, samples.classes) == ("idx", 1, ("0", "1", "2", "3"))
    assert [len(samples.part(split)) for split in ("train", "val", "test")] == [28, 4, 8]
    for sample in samples.samples:
        position = int(sample.index or 0) + (0 if "train" in sample.source else 32)
        assert sample.label == LABELS[position]
        np.testing.assert_array_equal(samples.read(sample, 1), IMAGES[position][:, :, None])
    np.testing.assert_array_equal(samples.read(samples.samples[0], 3)[:, :, 2], IMAGES[0])
    samples.read(samples.samples[0], 1)[:] = 0  # a copy: the next reader sees the picture
    np.testing.assert_array_equal(samples.read(samples.samples[0], 1)[:, :, 0], IMAGES[0])
    report = check_files(samples, threads=2)
    assert report.bad == []
    assert report.sizes.tolist() == [[7, 5]] * 40


def test_class_names_come_from_a_file(mnist: Path) -> None:
    (mnist / "classes.txt").write_text("shirt\nbag\n\ncoat\nboot\n")
    assert load(mnist).classes == ("shirt", "bag", "coat", "boot")  # in the order of the numbers
    (mnist / "classes.txt").write_text("shirt\nbag\n")
    with pytest.raises(DataError, match="labels go up to 3, but there are only 2 class names"):
        load(mnist)
    (mnist / "classes.txt").write_text("shirt\nbag\nbag\nboot")
    with pytest.raises(DataError, match="twice"):
        load(mnist)


def test_one_folder_too_high(mnist: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(mnist.parent)
    assert str(mnist) in (caught.value.hint or "")


IMAGE_FILE, LABEL_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"", "its first bytes are"),
        (idx(LABELS), "its first bytes are 00 00 08 01; expected 00 00 08 03"),
        (idx(IMAGES)[:-1], "expected"),
        (idx(IMAGES) + b"x", "expected"),
        (idx(IMAGES[:39]), "has 39 pictures"),
        (idx(IMAGES[:0]), "nothing in it"),
        (bytes((0, 0, 8, 3)) + struct.pack(">III", 40, 2**31, 2**31), "more than 2 GiB"),
    ],
)
def test_headers_that_lie(tmp_path: Path, gz: str, images: bytes, message: str) -> None:
    write(tmp_path / (IMAGE_FILE + gz), images)
    write(tmp_path / (LABEL_FILE + gz), idx(LABELS))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert message in str(caught.value)


def test_a_gz_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    bomb = gzip.compress(idx(IMAGES) + bytes(300 * 2**20), compresslevel=1)
    (tmp_path / (IMAGE_FILE + ".gz")).write_bytes(bomb)
    write(tmp_path / (LABEL_FILE + ".gz"), idx(LABELS))
    with pytest.raises(DataError, match="has more bytes; expected 1,416 by its header"):
        load(tmp_path)


def test_damaged_gz(tmp_path: Path) -> None:
    write(tmp_path / (IMAGE_FILE + ".gz"), idx(IMAGES))
    write(tmp_path / (LABEL_FILE + ".gz"), idx(LABELS))
    path = tmp_path / (IMAGE_FILE + ".gz")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"images-idx3-ubyte\.gz: cannot be read"):
        load(tmp_path)


def test_half_a_pair(tmp_path: Path) -> None:
    write(tmp_path / IMAGE_FILE, idx(IMAGES))
    with pytest.raises(DataError, match="no idx file with the labels of train"):
        load(tmp_path)


def cifar_record(labels: list[int], picture: NDArray[np.uint8]) -> bytes:
    return bytes(labels) + picture.transpose(2, 0, 1).tobytes()


def test_cifar_10(tmp_path: Path) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(names):
        pair = [cifar_record([n], pictures[2 * number + n]) for n in range(2)]
        (tmp_path / name).write_bytes(b"".join(pair))
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\n\n")
    samples = load(tmp_path, val_fraction=0.2)
    assert (samples.kind, samples.channels, samples.classes) == ("cifar", 3, ("plane", "car"))
    assert [len(samples.part(split)) for split in ("train", "val", "test")] == [8, 2, 2]
    for sample in samples.samples:
        picture = pictures[2 * names.index(sample.source) + sample.label]
        np.testing.assert_array_equal(samples.read(sample, 3), picture)
    assert samples.read(samples.samples[0], 1).shape == (32, 32, 1)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match="whole number of records of 3,073 bytes"):
        load(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"missing: data_batch_3\.bin"):
        load(tmp_path)


def test_cifar_100_uses_the_fine_label(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(b"".join(cifar_record([19, fine], picture) for fine in (0, 1, 2) * 4))
    (tmp_path / "fine_label_names.txt").write_text("apple\nbear\ncup\n")
    samples = load(tmp_path)
    assert samples.classes == ("apple", "bear", "cup")
    assert samples.counts()["test"].tolist() == [4, 4, 4]


@pytest.mark.parametrize("names", [["data_batch_1", "batches.meta"], ["train", "test", "meta"]])
def test_pickled_cifar_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(DataError, match="could run code") as caught:
        load(tmp_path)
    assert "binary version" in (caught.value.hint or "")
