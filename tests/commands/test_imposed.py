"""``train --split``: split as somebody else decided, or refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.inference.tiny import write_folder

from resight.commands.imposed import imposed_split
from resight.errors import DataError, UsageError
from resight.runs import SPLIT
from resight.samples import LEFT_OUT, SampleSet, load, split_csv

NOTHING: Mapping[str, object] = {}


def written(samples: SampleSet, folder: Path, moved: Mapping[str, str] | None = None) -> Path:
    """The split.csv of ``samples`` in ``folder``, with some lines given another split."""
    folder.mkdir(exist_ok=True)
    split_csv.write(folder / SPLIT, samples)
    lines = (folder / SPLIT).read_text("utf-8").splitlines()
    for source, split in (moved or {}).items():
        number = next(k for k, line in enumerate(lines) if line.startswith(f'"{source}"'))
        cells = lines[number].split(",")
        lines[number] = ",".join([*cells[:3], f'"{split}"', *cells[4:]])
    (folder / SPLIT).write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def test_the_split_of_another_run_or_table(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", each=10)
    samples = load(data, seed=5)
    run = written(samples, tmp_path / "run", {"red/0.png": "skipped"})
    for split in (run, run / SPLIT):
        found = imposed_split(data, split, NOTHING)
        expected = [(s.source, s.split) for s in samples.samples if s.source != "red/0.png"]
        assert [(s.source, s.split) for s in found.samples] == expected
        assert [(s.source, reason) for s, reason in found.dropped] == [("red/0.png", LEFT_OUT)]


def test_pictures_in_an_array_file_are_left_out_one_by_one(tmp_path: Path) -> None:
    """Not the whole file with them."""
    pixels, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 2
    for name, header, values in (
        ("train-images-idx3-ubyte.gz", struct.pack(">IIII", 2051, 20, 28, 28), pixels),
        ("train-labels-idx1-ubyte.gz", struct.pack(">II", 2049, 20), labels),
    ):
        (tmp_path / name).write_bytes(gzip.compress(header + values.tobytes()))
    samples = load(tmp_path, val_fraction=0.2, test_fraction=0.2)
    out = [LEFT_OUT if k == 7 else None for k in range(20)]
    split_csv.write(tmp_path / "table.csv", samples.leaving_out(out))
    found = imposed_split(tmp_path, tmp_path / "table.csv", NOTHING)
    assert [s.index for s in found.samples] == [k for k in range(20) if k != 7]


def test_what_cannot_be_trained_with_is_refused(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", each=4)
    samples = load(data, val_fraction=0.25, test_fraction=0.25)
    with pytest.raises(UsageError, match=r"data\.val_fraction would have no effect"):
        imposed_split(data, written(samples, tmp_path / "a"), {"data.val_fraction": 0.2})
    with pytest.raises(UsageError, match="there is no split"):
        imposed_split(data, tmp_path / "nothing", NOTHING)
    with pytest.raises(DataError, match="no validation part"):
        imposed_split(data, written(load(data, val_fraction=0), tmp_path / "b"), NOTHING)
    moved = {f"red/{k}.png": "test" for k in range(4)}
    with pytest.raises(DataError, match="gives no training picture to red"):
        imposed_split(data, written(samples, tmp_path / "c", moved), NOTHING)
    (data / "red" / "9.png").write_bytes((data / "red" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"1 added: red/9.png"):
        imposed_split(data, tmp_path / "a", NOTHING)
