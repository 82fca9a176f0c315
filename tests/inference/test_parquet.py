"""Parquet says what JSON lines say, read back by pyarrow."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.errors import MissingExtra, StorageError
from resight.inference import Prediction, Predictions, Unlikeness, parquet
from resight.inference.writers import jsonl_text, plain

pq: Any = pytest.importorskip("pyarrow.parquet")
pa: Any = pytest.importorskip("pyarrow")

P = float(np.float32(0.9))
SCORE = Unlikeness("knn", float(np.float32(3.1)), float(np.float32(2.7)))
ANSWERS = [
    Prediction("a.png", "hat", P, (("hat", P), ("=cmd", 1e-10)), unknown=True, score=SCORE),
    Prediction("b\n\u202e.png", "=cmd", P, (("=cmd", P),)),
    Prediction("c.png", None, None, error="the PNG file is damaged"),
    Prediction("d.png", "hat", P, (("hat", P),), labels=()),
    Prediction("e.png", "hat", P, (("hat", P),), labels=(("hat", P), ("coat", 0.5)), unknown=False),
    Prediction("", "\u732b", 0.5, (("\u732b", 0.5),)),
]


def read(path: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in pq.read_table(path).to_pylist()]


def rounded(value: Any) -> Any:
    """Floats as float32, as JSON's digits mean."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {name: rounded(item) for name, item in value.items()} if isinstance(value, dict) else value


def test_every_row_is_the_line_of_json(tmp_path: Path) -> None:
    Predictions(ANSWERS).to_parquet(tmp_path / "out.parquet")
    lines = [json.loads(line) for line in jsonl_text(ANSWERS)]
    expected = [{"labels": None, "source_bytes": None, **rounded(line)} for line in lines]
    assert read(tmp_path / "out.parquet") == expected
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_the_types_are_those_that_are_written_down(tmp_path: Path) -> None:
    """The head of the module is what people read: its lines are the file's columns."""
    Predictions([]).to_parquet(tmp_path / "out.parquet")
    schema = pq.read_schema(tmp_path / "out.parquet")
    head = (parquet.__doc__ or "").split("\n\n")[2].splitlines()
    said = dict(line.split(maxsplit=2)[:2] for line in head)
    assert list(said) == schema.names
    for name, kind in said.items():
        if name not in ("top", "labels", "score"):
            assert {"float": "float32"}.get(str(schema.field(name).type), str(schema.field(name).type)) == kind
    assert "list<struct<class: string, probability: float32>>" in head[4]
    assert str(schema.field("top").type) == "list<element: struct<class: string, probability: float>>"
    assert schema.field("labels").type == schema.field("top").type


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux")
def test_names_that_are_no_utf_8_come_back_exactly(tmp_path: Path) -> None:
    names = [b"\xff\n.png", b"caf\xe9.jpg", "caf\u00e9.jpg".encode(), b"\\udcff.png"]
    found = Predictions(Prediction(os.fsdecode(name), os.fsdecode(name), P) for name in names)
    found.to_parquet(tmp_path / "out.parquet")
    rows = read(tmp_path / "out.parquet")
    assert [row["source_bytes"] or row["source"].encode() for row in rows] == names
    assert [row["source"] for row in rows] == ["\\udcff\n.png", "caf\\udce9.jpg", "caf\u00e9.jpg", "\\udcff.png"]
    assert rows[1]["label"] == "caf\\udce9.jpg"


def test_rows_are_taken_a_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 100)
    waiting, most = 0, 0

    class Row(dict[str, Any]):
        def __del__(self) -> None:
            nonlocal waiting
            waiting -= 1

    def rows() -> Iterator[Row]:
        nonlocal waiting, most
        for k in range(1050):
            waiting += 1
            most = max(most, waiting)
            yield Row(plain(Prediction(str(k), "a", P, (("a", P),))))

    parquet.write_parquet(rows(), tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [100] * 10 + [50]
    assert [row["source"] for row in file.read().to_pylist()] == [str(k) for k in range(1050)]
    assert most <= 202
    file.close()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.parquet").write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        Predictions(ANSWERS).to_parquet(tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "old"
    assert os.listdir(tmp_path) == ["out.parquet"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_while_pyarrow_writes() -> None:
    with pytest.raises(StorageError, match="No space left on device"):
        parquet.write_parquet((plain(answer) for _ in range(20000) for answer in ANSWERS), Path("/dev/full"))


def test_what_the_rows_raise_is_raised(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield plain(ANSWERS[0])
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        parquet.write_parquet(rows(), tmp_path / "out.parquet")


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"resight\[parquet\]"):
        Predictions(ANSWERS).to_parquet(tmp_path / "out.parquet")
    assert os.listdir(tmp_path) == []
