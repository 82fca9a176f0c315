"""Columns of pictures in, columns of answers out: the same answers as ``predict``. Needs no Ray."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny

from resight.commands.predict import predict
from resight.errors import RunError, UsageError
from resight.images import decode
from resight.inference import BatchPredictor, Prediction
from resight.inference.writers import plain
from resight.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("photos")
    found = [tiny.write_picture(root / f"{k}.png", tiny.CLASSES[k % 3], k) for k in range(7)]
    (root / "bad.png").write_bytes(b"no picture")
    return [*found[:4], root / "bad.png", *found[4:]]


def objects(values: list[Any]) -> np.ndarray[Any, Any]:
    column = np.empty(len(values), object)
    for k, value in enumerate(values):
        column[k] = value
    return column


def rows(batch: dict[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """As JSON has them, without ``source``."""
    names = ["label", "probability", "top", "error", "unknown", "score", "labels"]
    found = [{name: batch[prefix + name][k] for name in names} for k in range(len(batch[prefix + "label"]))]
    for row in found:
        row["probability"] = None if np.isnan(row["probability"]) else float(str(row["probability"]))
    return found


def expected(answers: Any) -> list[dict[str, Any]]:
    return [{"labels": None, **{k: v for k, v in plain(answer).items() if k != "source"}} for answer in answers]


def test_paths_bytes_and_arrays_are_answered_as_by_predict(run: Run, files: list[Path]) -> None:
    answers = expected(predict(run, files, top=2))
    by_path = BatchPredictor(run, top=2)
    batch = {"path": np.array([str(path) for path in files]), "id": np.arange(8)}
    found = by_path(batch)
    assert rows(found) == answers
    assert list(found) == ["path", "id", "label", "probability", "top", "labels", "unknown", "score", "error"]
    assert found["id"] is batch["id"]
    assert found["probability"].dtype == np.float32
    assert np.isnan(found["probability"][4])
    assert found["label"][4] is None
    assert "not a picture" in found["error"][4] or found["error"][4]
    assert list(batch) == ["path", "id"]  # what was given stays as it was

    encoded = BatchPredictor(run.path, column="bytes", top=2)({"bytes": objects([p.read_bytes() for p in files])})
    assert rows(encoded) == answers

    good = [path for path in files if path.name != "bad.png"]
    pixels = [decode(path.read_bytes()) for path in good]
    stacked = BatchPredictor(run, column="image", top=2)({"image": np.stack(pixels)})
    ragged = BatchPredictor(run, column="image", top=2)({"image": objects(pixels)})
    assert rows(stacked) == rows(ragged) == [row for row in answers if row["error"] is None]
    assert [type(value) for value in stacked["top"]] == [list] * 7


def test_every_batch_size_gives_the_same(run: Run, files: list[Path]) -> None:
    answer = BatchPredictor(run, threads=2, batch=3)
    whole = rows(answer({"path": objects(files)}))
    alone = [row for path in files for row in rows(answer({"path": objects([path])}))]
    assert whole == alone
    assert rows(answer({"path": objects([])})) == []


def test_several_labels(tmp_path: Path, files: list[Path]) -> None:
    from tests.inference.test_multilabel import make_run

    run = make_run(tmp_path / "run")
    found = BatchPredictor(run)({"path": objects(files)})
    assert rows(found) == expected(predict(run, files))
    assert any(labels for labels in found["labels"])


def test_a_column_that_is_there_is_not_replaced(run: Run, files: list[Path]) -> None:
    batch = {"path": objects(files), "label": np.arange(8)}
    with pytest.raises(UsageError, match="'label' already"):
        BatchPredictor(run)(batch)
    found = BatchPredictor(run, prefix="predicted_")(batch)
    assert found["label"] is batch["label"]
    assert rows(found, "predicted_") == expected(predict(run, files))


def test_what_is_refused(run: Run, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'path', only image, id"):
        BatchPredictor(run)({"image": np.zeros(1), "id": np.zeros(1)})
    with pytest.raises(UsageError, match="loses zero bytes"):
        BatchPredictor(run)({"path": np.array([b"a\0", b"bc"])})
    with pytest.raises(UsageError, match="found int"):
        BatchPredictor(run)({"path": objects([3])})
    with pytest.raises(UsageError, match="expected uint8"):
        BatchPredictor(run)({"path": np.zeros((2, 8, 8, 3), np.float32)})
    with pytest.raises(UsageError, match="top"):
        BatchPredictor(run, top=0)
    with pytest.raises(RunError):
        BatchPredictor(tmp_path)


def test_pickled_it_is_its_arguments(run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    data = pickle.dumps(BatchPredictor("run", column="p", top=1, prefix="x_"))
    assert len(data) < 1000
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert rows(again({"p": objects(files)}), "x_") == expected(predict(run, files, top=1))


ALONE = """
import sys
import resight
answer = resight.BatchPredictor(sys.argv[1])
import numpy
print(answer({"path": numpy.array([sys.argv[2]])})["label"][0])
assert not {"ray", "torch", "pyarrow"} & set(sys.modules)
"""


def test_neither_ray_nor_torch_is_imported(run: Run, files: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, str(run.path), str(files[0])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{tiny.CLASSES[0]}\n", "")


def test_answers_are_predictions(run: Run, files: list[Path]) -> None:
    """The fields of a Prediction but for its source, and no other: none is forgotten when one is added."""
    from dataclasses import fields

    from resight.inference.columns import ADDED

    assert {*ADDED, "route", "tiles"} == {field.name for field in fields(Prediction)} - {"source"}
