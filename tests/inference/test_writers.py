from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.errors import StorageError, UsageError
from resight.inference import Prediction, Predictions, Unlikeness, escape_cell, unescape_cell, write
from resight.inference.writers import csv_text, json_text, jsonl_text, save, table_text

HOSTILE = [
    "=cmd|'/C calc'!A0",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'quoted",
    "''",
    'say "hi", twice',
    "two\nlines\r\nand\rmore",
    "<script>alert(1)</script>",
    "right\u202eto left",
    "\x1b[31mred\x9b2J",
    "line\u2028separator",
    "caf\u00e9 \u732b \U0001f408",
    "undecodable\udcff",
    "tag\U000e0041",
    "",
]


def predictions(names: list[str]) -> Predictions:
    p = float(np.float32(0.9))
    return Predictions(Prediction(n, f"{n}L", p, ((f"{n}L", p), ("other", 1e-10))) for n in names)


def test_json_is_exact_and_inert() -> None:
    text = "".join(json_text(predictions(HOSTILE)))
    found = json.loads(text)
    assert [item["source"] for item in found] == HOSTILE
    assert [item["label"] for item in found] == [f"{name}L" for name in HOSTILE]
    assert found[0]["probability"] == 0.9  # the fewest digits of this float32
    assert found[0]["top"] == [
        {"class": "=cmd|'/C calc'!A0L", "probability": 0.9},
        {"class": "other", "probability": 1e-10},
    ]
    for harmful in "\x1b\x9b\u202e\u2028\udcff\U000e0041":
        assert harmful not in text
    assert "caf\u00e9 \u732b" in text


def test_jsonl_is_one_object_a_line() -> None:
    lines = "".join(jsonl_text(predictions(HOSTILE))).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["source"] for line in lines] == HOSTILE


def test_csv_is_exact_and_inert(tmp_path: Path) -> None:
    predictions(HOSTILE).to_csv(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        header, *rows = csv.reader(stream, strict=True)
    assert header[:4] == ["source", "label", "probability", "error"]
    assert header[4:] == ["unknown", "score", "threshold", "class_1", "p_1", "class_2", "p_2"]
    assert [unescape_cell(row[0]) for row in rows] == HOSTILE
    assert [unescape_cell(row[7]) for row in rows] == [f"{name}L" for name in HOSTILE]
    assert {row[2] for row in rows} == {"0.9"}
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝")) for row in rows for cell in row)


@given(st.text())
def test_cells_come_back(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text
    assert not escape_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_csv_columns_hold_when_the_first_pictures_have_no_answer() -> None:
    bad = Prediction("bad", None, None, error="the PNG file is damaged")
    good = Prediction("good", "a", 0.5, (("a", 0.5), ("b", 0.25)))
    rows = list(csv.reader("".join(csv_text([bad, bad, good, bad])).splitlines()))
    assert {len(row) for row in rows} == {11}
    assert rows[1] == ["bad", "", "", "the PNG file is damaged", *[""] * 7]
    assert rows[3] == ["good", "a", "0.5", "", "", "", "", "a", "0.5", "b", "0.25"]
    assert list(csv_text([])) == ['"source","label","probability","error","unknown","score","threshold"\n']
    assert len(list(csv_text([bad]))) == 2


def test_unknown_is_said_in_every_format() -> None:
    unlike = Prediction("x", "shirt", 0.9, (("shirt", 0.9),), unknown=True, score=Unlikeness("s", 3.0, 2.5))
    like = Prediction("y", "hat", 0.8, (("hat", 0.8),), unknown=False, score=Unlikeness("s", 2.5, 2.5))
    silent = Prediction("z", "hat", 0.8, (("hat", 0.8),))
    assert "".join(table_text([unlike, like, silent])) == (
        "x  unknown (shirt?)   90.0 %\ny  hat                80.0 %\nz  hat                80.0 %\n"
    )
    found = json.loads("".join(json_text([unlike, like, silent])))
    assert [item["unknown"] for item in found] == [True, False, None]
    assert [item["score"] for item in found] == [
        {"name": "s", "value": 3.0, "threshold": 2.5},
        {"name": "s", "value": 2.5, "threshold": 2.5},
        None,
    ]
    assert found[0]["label"] == "shirt"
    assert found[0]["probability"] == 0.9
    rows = list(csv.reader("".join(csv_text([unlike, like, silent])).splitlines()))[1:]
    assert [row[4:7] for row in rows] == [["true", "3.0", "2.5"], ["false", "2.5", "2.5"], ["", "", ""]]


def test_json_of_nothing_is_an_empty_list() -> None:
    assert json.loads("".join(json_text([]))) == []


def test_table_is_aligned_and_inert() -> None:
    hostile = Prediction("a\x1b[31m\u202e\nb", "l\x9b", 0.5, (("l\x9b", 0.5), ("m\u202e", 0.25)))
    text = "".join(
        table_text([hostile, Prediction("猫.png", "x", 1.0, (("x", 1.0),)), Prediction("c", None, None, error="e\n")])
    )
    assert text == (
        "a\\x1b[31m\\u202e\\nb  l\\x9b   50.0 %  m\\u202e 25.0 %\n"
        "猫.png              x      100.0 %\n"
        "c                   error: e\\n\n"
    )


def test_text_is_written_as_it_is_made() -> None:
    """Not one prediction more is asked for than is needed for the line that is written."""
    asked = 0

    def endless() -> Iterator[Prediction]:
        nonlocal asked
        while True:
            asked += 1
            yield Prediction("a", "b", 0.5, (("b", 0.5),))

    lines = jsonl_text(endless())
    next(lines)
    assert asked == 1
    rows = csv_text(endless())
    next(rows)
    assert asked == 2


class FullDisk(io.FileIO):
    """A file on a disk with room for 100 bytes."""

    room = 100

    def write(self, data: object) -> int:
        self.room -= len(bytes(data))  # type: ignore[call-overload]
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    out.write_bytes(b"old")
    monkeypatch.setattr(Path, "open", lambda self, mode: FullDisk(self, mode))
    with pytest.raises(StorageError, match=r"No space left.*bytes free"):
        predictions(["a"] * 50).to_csv(out)
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("error", [OSError("of the pictures"), ValueError("x"), KeyboardInterrupt()])
def test_an_error_while_predicting_leaves_the_old_file_and_is_not_blamed_on_the_disk(
    error: BaseException, tmp_path: Path
) -> None:
    def failing() -> Iterator[str]:
        yield "half"
        raise error

    out = tmp_path / "out.csv"
    out.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        save(failing(), out)
    assert caught.value is error
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_place_that_cannot_be_written_is_found_before_predicting(tmp_path: Path) -> None:
    asked = []

    def watched() -> Iterator[str]:
        asked.append(1)
        yield "x"

    with pytest.raises(StorageError, match="No such file"):
        save(watched(), tmp_path / "missing" / "out.csv")
    with pytest.raises(UsageError, match="not a regular file"):
        save(watched(), tmp_path)
    with pytest.raises(UsageError, match="not a regular file"):
        save(watched(), Path(os.devnull))
    assert asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_bytes(b"old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    save(["new"], tmp_path / "link.txt")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == b"new"


def test_write_to_a_stream_keeps_undecodable_names() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")  # as in a C locale
    write(predictions(["caf\u00e9\udcff"]), "csv", stream=stream)
    assert "caf\u00e9".encode() + b"\xff" in raw.getvalue()
    plain = io.StringIO()
    write(predictions(["a"]), "table", stream=plain)
    assert plain.getvalue() == "a  aL   90.0 %  other 0.0 %\n"


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="table, json, jsonl, csv"):
        write([], "xml", stream=io.StringIO())
    with pytest.raises(UsageError, match="either a file or a stream"):
        write([], "csv")
    with pytest.raises(UsageError, match="either a file or a stream"):
        write([], "csv", tmp_path / "a", stream=io.StringIO())


def test_predictions_are_a_sequence(tmp_path: Path) -> None:
    found = Predictions([*predictions(["a", "b"]), Prediction("c", None, None, error="e")])
    assert [p.source for p in found] == ["a", "b", "c"]
    assert len(found) == 3
    assert found[-1].error == "e"
    assert [p.source for p in found[:2]] == ["a", "b"]
    assert [p.source for p in found.errors] == ["c"]
    assert "3 pictures, 1 errors" in repr(found)
    found.to_json(tmp_path / "a.json")
    found.to_jsonl(tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))[2]["error"] == "e"
    assert len((tmp_path / "a.jsonl").read_text("utf-8").splitlines()) == 3
