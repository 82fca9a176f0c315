"""What commands do with a Run that cuts pictures into tiles: answer, or refuse in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.tiled import photo, tiled_run
from tests.inference.tiny import write_folder
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.commands.quantize import quantize_run
from resight.errors import UsageError
from resight.runs import Run

PLAIN = {"data.geometry": "tiles"}
# {what: the call}; data: a folder of pictures, run: a Run that cuts them into tiles.
ON_A_RUN: dict[str, Callable[[Run, Path], Any]] = {
    "bench": lambda run, data: resight.bench(run),
    "export": lambda run, data: resight.export(run, to="onnx"),
    "quantize": lambda run, data: quantize_run(run),
    "serve": lambda run, data: resight.serve(str(run.path)),
    "adapt --by cascade": lambda run, data: resight.adapt(run, data, with_=run),
    "adapt --by resolution": lambda run, data: resight.adapt(run, data, by="resolution"),
    "adapt --by blocks": lambda run, data: resight.adapt(run, data, by="blocks"),
    "eval --tta": lambda run, data: resight.evaluate_run(run, data, tta="flip"),
    "eval --corruptions": lambda run, data: resight.evaluate_run(run, data, corruptions=True),
    "study shortcuts": lambda run, data: resight.study_shortcuts(run, data),
    "explain --method": lambda run, data: resight.explain(run, data, method="occlusion"),
    "explain --sanity": lambda run, data: resight.explain(run, data, sanity=True),
    "explain --inside": lambda run, data: resight.explain(run, data, inside=True),
    "train --from": lambda run, data: resight.train(data, from_run=run.path),
    "train --teacher": lambda run, data: resight.train(data, teacher=run.path, image_size=28),
}
WITH_WISHES: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "preview": lambda data, wishes: resight.preview(data, set=wishes),
    "advise": lambda data, wishes: resight.advise(data, set=wishes),
    "train --model auto": lambda data, wishes: resight.train(data, model="auto", set=wishes),
    "tune": lambda data, wishes: resight.tune(data, set=wishes),
    "lr-find": lambda data, wishes: resight.lr_find(data, set=wishes),
    "crossval": lambda data, wishes: resight.crossval(data, set=wishes),
    "study depth": lambda data, wishes: resight.study_depth(data, set=wishes),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiled_run(tmp_path_factory.mktemp("tiled") / "run")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "colours", each=12)


@pytest.mark.parametrize("what", ON_A_RUN)
def test_a_command_on_squares_refuses_such_a_run(
    what: str, run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"cuts\s+pictures into tiles"):
        ON_A_RUN[what](run, data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wishes", [{"data.geometry": "tiles"}, {"model.weights": "RUN"}])
@pytest.mark.parametrize("what", WITH_WISHES)
def test_a_search_refuses_tiles(
    what: str, wishes: dict[str, str], run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if wishes == {"model.weights": "RUN"} and what in ("preview", "study depth"):
        pytest.skip("has no weights")
    given = {name: value.replace("RUN", str(run.path)) for name, value in wishes.items()}
    with pytest.raises(UsageError, match=r"data\.geometry=tiles"):
        WITH_WISHES[what](data, given)
    assert not list(tmp_path.iterdir())


def test_any_number_of_labels_is_refused(tmp_path: Path) -> None:
    for number in range(90):
        Image.fromarray(photo(number, 40, 40)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{'red' if number % 3 == 0 else 'red|green'}" for number in range(90)]
    (tmp_path / "table.csv").write_text("\n".join(["path,labels", *rows]), "utf-8")
    with pytest.raises(UsageError, match=r"task=multi does not go with data\.geometry=tiles"):
        resight.train(tmp_path / "table.csv", image_size=28, set={"data.geometry": "tiles"}, out=tmp_path / "run")


def test_predict_and_explain_on_the_command_line(run: Run, tmp_path: Path) -> None:
    Image.fromarray(photo(0, 50, 70)).save(tmp_path / "a.png")
    found = CliRunner().invoke(app, ["predict", str(run.path), str(tmp_path / "a.png"), "--json"])
    assert found.exit_code == 0, found.output
    label = json.loads(found.stdout)[0]["label"]
    out = tmp_path / "explained"
    found = CliRunner().invoke(app, ["explain", str(run.path), str(tmp_path / "a.png"), "--out", str(out), "--json"])
    assert found.exit_code == 0, found.output
    (item,) = json.loads(found.stdout)["pictures"]
    assert item["label"] == label
    with Image.open(out / "001-a-map.png") as whole:
        assert whole.size == (70, 50)
        assert np.asarray(whole)[item["peak"]["y"], item["peak"]["x"]] == 255


def test_what_is_wrong_ends_with_2(run: Run) -> None:
    found = CliRunner().invoke(app, ["bench", str(run.path)])
    assert isinstance(found.exception, UsageError) or found.exit_code == 2
