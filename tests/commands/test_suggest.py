"""``resight suggest``: diverse pictures from a Run without classes, doubtful ones from a Run that answers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.inference import tiny
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.errors import UsageError
from resight.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_known_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for k in range(12):
        tiny.write_picture(folder / f"{k:02d}.png", tiny.CLASSES[k % 3], k)
    return folder


def test_one_of_each_kind_is_suggested(run: Run, photos: Path) -> None:
    found = resight.suggest(photos, weights=run, count=3)
    assert {item.answer for item in found.found} == set(tiny.CLASSES)
    assert [item.rank for item in found.found] == [1, 2, 3]
    assert sum(item.stands_for for item in found.found) == 12
    assert found == resight.suggest(photos, weights=run, count=3)


def test_labelled_pictures_are_not_suggested(run: Run, photos: Path) -> None:
    known = [photos / f"{k:02d}.png" for k in range(9)]
    found = resight.suggest(photos, weights=run, count=3, labelled=known)
    assert sorted(item.source for item in found.found) == [str(photos / f"{k:02d}.png") for k in (9, 10, 11)]
    assert found.pictures == 3


def test_the_table_and_the_list(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    result = CliRunner().invoke(
        app, ["suggest", str(photos), "--weights", str(run.path), "--count", "4", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["source"] in result.output for row in rows)
    assert all(0 <= float(row["margin"]) <= 1 for row in rows)


def test_unreadable_pictures_are_told(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    result = CliRunner().invoke(
        app, ["suggest", str(photos), str(tmp_path / "bad.png"), "--weights", str(run.path), "--count", "2"]
    )
    assert result.exit_code == 1
    assert "bad.png" in result.output


@pytest.mark.parametrize("count", [13, 0])
def test_a_count_that_cannot_be_is_refused(count: int, run: Run, photos: Path) -> None:
    with pytest.raises(UsageError, match="count"):
        resight.suggest(photos, weights=run, count=count)


def test_a_run_of_any_number_of_labels_is_refused(photos: Path, tmp_path: Path) -> None:
    from resight.runs import Threshold

    thresholds = tuple(Threshold(0.5) for _ in tiny.CLASSES)
    several = tiny.make_run(tmp_path / "multi", fields={"task": "multi", "thresholds": thresholds})
    with pytest.raises(UsageError, match="any number of labels"):
        resight.suggest(photos, weights=several, count=2)
