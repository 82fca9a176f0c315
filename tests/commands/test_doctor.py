"""``resight doctor``: exit codes, the cleaned table, the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.doctor.pictures import scene, write, write_set
from tests.inference import tiny
from tests.reporting.browser import PHONE, opened

from resight import examine
from resight.errors import DataError, RunError, UsageError
from resight.samples import load

# no folder can have a slash in its name: the browser needs no end tag
HOSTILE = ("<script>alert(1)<script>", "=cmd|' calc'!A1", "a\u202eb\nc", "\"'><img src=x onerror=alert(2)>")


def cli(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from resight.cli import main; main()", "doctor", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Every defect that the table removes."""
    root = write_set(tmp_path / "data", {"train/cat": 5, "train/dog": 5, "val/cat": 2, "val/dog": 2})
    (root / "train/cat/0.jpg").write_bytes(b"no picture")
    write(root, "train/dog/white.png", Image.new("RGB", (60, 60), "white"))
    shutil.copy(root / "train/cat/1.jpg", root / "val/cat/copy.jpg")
    shutil.copy(root / "train/cat/2.jpg", root / "train/dog/other.jpg")
    shutil.copy(root / "train/dog/3.jpg", root / "train/dog/twin.jpg")
    write(root, "train/dog/small.jpg", scene(1004).resize((80, 60)))
    return root


def test_exit_codes(root: Path, tmp_path: Path) -> None:
    sound = write_set(tmp_path / "sound", {"train/a": 40, "train/b": 40, "val/a": 30, "val/b": 30, "test/a": 30,
                                           "test/b": 30})  # fmt: skip
    assert cli(root).returncode == 0
    assert cli(root, "--strict").returncode == 1
    strict = cli(sound, "--strict")
    assert strict.returncode == 0, strict.stdout
    missing = cli(tmp_path / "nowhere")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "no data set" in missing.stderr


def test_json_has_everything(root: Path) -> None:
    done = cli(root, "--json")
    report = json.loads(done.stdout)
    assert report["pictures"] == 19
    assert {f["severity"] for f in report["findings"]} == {"error", "warning", "note"}
    kinds = {f["kind"] for f in report["findings"]}
    assert {"unreadable", "blank", "conflicting-labels", "duplicates", "near-duplicates"} <= kinds
    for finding in report["findings"]:
        assert finding["effect"]
        assert finding["remedy"]
        assert finding["count"] == (len(finding["items"]) or len(finding["texts"]))


def test_the_cleaned_table_trains_as_it_is(root: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    table = tmp_path / "clean.csv"
    examine(root, write_manifest=table)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    samples = load(table, test_fraction=0)
    kept = {sample.source.removeprefix("data/"): sample for sample in samples.samples}
    gone = {path.relative_to(root).as_posix() for path in before} - set(kept)
    assert gone == {
        "train/cat/0.jpg", "train/dog/white.png", "train/cat/1.jpg", "train/cat/2.jpg", "train/dog/other.jpg",
        "train/dog/twin.jpg",
    }  # fmt: skip
    assert all(sample.split == source.split("/")[0] for source, sample in kept.items())
    assert kept["train/dog/4.jpg"].group == kept["train/dog/small.jpg"].group == "alike-1"
    clean = examine(table)
    assert not {f.kind for f in clean.findings} & {"unreadable", "blank", "conflicting-labels", "duplicates"}


def test_a_table_keeps_its_splits_groups_and_hostile_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, name in enumerate(HOSTILE):
        for k in range(3):
            write(root, f"{name}/{k}.png", scene(10 * number + k, 60, 50))
    first = tmp_path / "first.csv"
    examine(root, write_manifest=first)
    expected = load(root, val_fraction=0, test_fraction=0)
    found = load(first, val_fraction=0, test_fraction=0)
    assert found.classes == expected.classes
    assert [f"data/{s.source}" for s in expected.samples] == [s.source for s in found.samples]


def test_where_the_table_may_lie(root: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    with pytest.raises(UsageError, match="neither in"):
        examine(root, write_manifest=tmp_path / "else" / "clean.csv")
    table = root / "clean.csv"
    examine(root, write_manifest=table)
    with pytest.raises(UsageError, match="the data set itself"):
        examine(table, write_manifest=table)


def test_array_files_have_no_table(tmp_path: Path) -> None:
    import struct

    for split in ("train", "t10k"):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">4B3I", 0, 0, 8, 3, 2, 9, 9) + bytes(range(162))
        )
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes([0, 1]))
    with pytest.raises(DataError, match="no files of their own"):
        examine(tmp_path, write_manifest=tmp_path / "clean.csv")


def test_a_run_must_be_of_these_data_and_have_predictions(tmp_path: Path, root: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"predictions\.npz"):
        examine(root, run=run)


def test_the_page_shows_hostile_names_and_nothing_runs(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    root = tmp_path / "<b>data"
    for number, name in enumerate(HOSTILE):
        for k in range(3):
            write(root, f"train/{name}/{k}<i>.png", scene(10 * number + k, 60, 50))
    write(root, f"train/{HOSTILE[0]}/twin.png", scene(0, 60, 50))
    write(root, f"val/{HOSTILE[1]}/twin.png", scene(1, 60, 50))
    (root / f"train/{HOSTILE[0]}/x onerror=alert(3).png").write_bytes(b"<script>alert(4)</script>")
    page = tmp_path / "page.html"
    examine(root, page=page)
    for size in ((1280, 900), PHONE):
        with opened(page, size) as seen:
            assert HOSTILE[0] in seen.text
            assert (seen.dialogs, seen.errors, seen.overflow, seen.broken_pictures) == ([], [], 0, 0)
            assert [url for url in seen.requests if not url.startswith(("data:", "file:"))] == []
            assert seen.page.evaluate("document.scripts.length") == 0
