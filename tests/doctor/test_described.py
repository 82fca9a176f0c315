"""What embeddings add: pairs much nearer than usual, and pictures unlike all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.inference import tiny
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.doctor.described import alike, findings, neighbours, strangers
from resight.doctor.duplicates import Duplicates
from resight.errors import UsageError

RANDOM = np.random.default_rng(2)
NONE = Duplicates((), ())


def rows(count: int = 60, width: int = 8) -> np.ndarray:
    return (np.eye(width)[RANDOM.integers(0, 3, count)] + 0.2 * RANDOM.normal(size=(count, width))).astype(np.float32)


def test_neighbours_against_a_slow_reference() -> None:
    some = rows(40)
    unit = some / np.linalg.norm(some, axis=1, keepdims=True)
    order, distances = neighbours(some)
    for k in range(40):
        apart = sorted((float(np.linalg.norm(unit[k] - unit[j])), j) for j in range(40) if j != k)[:5]
        assert order[k].tolist() == [j for _, j in apart]
        assert distances[k] == pytest.approx([distance for distance, _ in apart], abs=1e-5)


def test_a_pair_much_nearer_than_usual_is_found_once() -> None:
    some = rows()
    some[17] = some[4] * 3 + 1e-3
    order, distances = neighbours(some)
    assert [pair[:2] for pair in alike(order, distances)] == [(4, 17)]


def test_a_picture_unlike_all_others_is_found() -> None:
    some = (np.eye(8)[RANDOM.integers(0, 3, 60)] + 0.05 * RANDOM.normal(size=(60, 8))).astype(np.float32)
    some[9] = -np.eye(8)[7] * 5
    _, distances = neighbours(some)
    assert strangers(distances)[0][0] == 9
    assert not strangers(neighbours(rows(200))[1])


def test_duplicates_by_pixels_are_not_told_again() -> None:
    some = rows()
    some[17], some[30] = some[4], some[5]
    positions = np.arange(100, 160)
    (found,) = findings(some, positions, Duplicates(((104, 117),), ()), "run")
    assert [item.pictures for item in found.items] == [(105, 130)]
    assert findings(some[:6], positions[:6], NONE, "run") == []


def test_an_unlabelled_folder_is_examined(tmp_path: Path) -> None:
    run = tiny.make_known_run(tmp_path / "run")
    folder = tmp_path / "photos"
    for k in range(20):
        tiny.write_picture(folder / f"{k:02d}.png", tiny.CLASSES[k % 3], k)
    (folder / "bad.png").write_bytes(b"nothing")
    result = CliRunner().invoke(app, ["doctor", str(folder), "--unlabelled", "--weights", str(run.path)])
    assert result.exit_code == 0, result.output
    assert "21 pictures without labels" in result.output
    assert "bad.png" in result.output
    assert "class" not in result.output.split("pictures without labels")[0]
    with pytest.raises(UsageError, match="no labels"):
        resight.examine(folder, unlabelled=True, run=run)
