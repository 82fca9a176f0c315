"""Adaptive artefacts call pictures unknown: each route by training pictures as it sees them, all by one threshold."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from tests.adapting.small import pictures, rating, timing, two_runs
from tests.inference.tiny import SIZE
from typer.testing import CliRunner

from resight.adapting.cascades import cascade, small_of
from resight.adapting.graphs import graph_of
from resight.adapting.timing import Asking
from resight.adapting.unknown import alarms, spread, tell
from resight.cli import app
from resight.commands.eval import evaluate_run
from resight.commands.predict import predict
from resight.errors import AdaptationError, RunError
from resight.evaluation import wilson
from resight.inference import UNLIKE, Predictor, Reference, open_backend, plain
from resight.inference.plan import Plan, read_plan
from resight.runs import Run, open_artifact
from resight.samples import load
from resight.serving.card import card_of
from resight.serving.limits import Limits


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Runs ``whole``, with the artefact, and ``small``, their ``data``, what was ``said``; ``white``: foreign."""
    folder = tmp_path_factory.mktemp("told")
    whole, small, data = two_runs(folder, {"train": 60, "val": 120, "test": 60})
    said: list[str] = []
    stubs = {"timing": timing(), "rating": rating(resnet18=1000.0)}
    cascade(whole, data, [small_of(whole, small)], name="cascade", rule="cascade", say=said.append, **stubs)
    (folder / "said").write_text("\n".join(said))
    (folder / "white").mkdir()
    for k in range(6):
        Image.fromarray(np.full((SIZE, SIZE, 3), 255 - k, np.uint8)).save(folder / "white" / f"{k}.png")
    return folder


def test_the_unit_is_how_far_training_pictures_lie_from_each_other() -> None:
    """Against all distances, each picture without itself."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(50, 4)).astype(np.float32)
    reference = Reference.fit(rows, random.integers(0, 3, 50), np.arange(50), [str(k) for k in range(50)])
    white = (rows / np.linalg.norm(rows, axis=1, keepdims=True) - reference.centre) @ reference.whitening
    apart = cdist(white, white)
    np.fill_diagonal(apart, np.inf)
    expected = np.quantile(np.sort(apart, axis=1)[:, 4], 0.95)
    assert spread(reference, rows) == pytest.approx(expected, rel=1e-2)  # the bank is in float16
    few = Reference.fit(rows[:3], np.zeros(3, np.int64), np.arange(3), [""] * 3)
    white = (rows[:3] / np.linalg.norm(rows[:3], axis=1, keepdims=True) - few.centre) @ few.whitening
    apart = np.sort(cdist(white, white), axis=1)
    assert spread(few, rows[:3]) == pytest.approx(np.quantile(apart[:, 2], 0.95), rel=1e-2)  # both others
    alike = np.ones((8, 4), np.float32)
    same = Reference.fit(alike, np.zeros(8, np.int64), np.arange(8), [""] * 8)
    assert spread(same, alike) > 0


def test_the_threshold_is_that_of_validation_as_it_is_answered(ready: Path) -> None:
    """From scratch: each validation picture by its own route, the ⌈0.95 (n + 1)⌉-th smallest; and of how many."""
    whole = Run.open(ready / "whole")
    artifact = open_artifact(whole, "cascade")
    told, plan = artifact.card.unknown, read_plan(artifact.graph, artifact.sha256)
    assert (told["score"], told["k"], told["pictures"]) == ("knn-whitened-by-route", 5, 60)
    answered, _ = Predictor(whole, artifact="cascade", threads=1).answers_of(load(ready / "data"), "val")
    assert answered.unlike is not None
    assert answered.route is not None
    assert told["threshold"] == pytest.approx(np.sort(answered.unlike)[math.ceil(0.95 * 121) - 1], rel=1e-5)
    for number, route in enumerate(plan.routes):
        about, mine = artifact.card.adaptive["routes"][number]["unknown"], answered.unlike[answered.route == number]
        assert about == {
            "pictures": 60,
            "unit": route.reference.unit if route.reference else None,
        } | alarms(mine, told["threshold"])
        known = Reference.from_bytes((artifact.path / route.reference_file).read_bytes())
        assert len(known.bank) == 60
        assert all(load(ready / "data").samples[k].split == "train" for k in known.indices)
    said = (ready / "said").read_text()
    assert "unknown: less like 60 training pictures than 95 % of validation; of pictures like these" in said
    assert "of those that take the route resnet18" in said


def test_what_is_foreign_is_called_unknown_everywhere(ready: Path, tmp_path: Path) -> None:
    whole = Run.open(ready / "whole")
    files = sorted((ready / "data" / "test").rglob("*.png"))
    found = predict(whole, [str(file) for file in files], artifact="cascade", threads=1)
    called = sum(bool(one.unknown) for one in found)
    assert all(one.score is not None and one.score.name == "knn-whitened-by-route" for one in found)
    interval = wilson(called, len(files))
    assert interval.low <= 0.05 <= interval.high
    result = evaluate_run(whole, artifact="cascade", threads=1, report=tmp_path / "page.html")
    assert result.unknown is not None
    assert result.unknown.value == called / len(files)
    assert f"called unknown: {called} of {len(files)}" in result.to_text()
    assert "unlike" in (tmp_path / "page.html").read_text("utf-8")
    foreign = predict(whole, ready / "white", artifact="cascade", threads=1)
    assert all(one.unknown for one in foreign)
    foreign.to_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["unknown"] for row in rows] == ["true"] * 6
    assert all(float(row["score"]) > float(row["threshold"]) for row in rows)


def test_the_server_and_explain_say_the_same(ready: Path, tmp_path: Path) -> None:
    whole = Run.open(ready / "whole")
    predictor = Predictor(whole, artifact="cascade", threads=1)
    squares = pictures(30, seed=3)
    together = predictor.compute(squares, predictor.needed, alone=True)
    for k, square in enumerate(squares):
        one = [array[0] for array in predictor.compute(square[None], predictor.needed, alone=True)]
        first, other = (plain(predictor.prediction("", row, 3)) for row in (one, [array[k] for array in together]))
        assert first["unknown"] == other["unknown"]
        assert first["score"]["value"] == pytest.approx(other["score"]["value"], rel=1e-5)
        assert first["route"] == other["route"]
    card = card_of("colours", "1", predictor, Limits(threads=1))
    assert card["unknown"] == open_artifact(whole, "cascade").card.unknown
    arguments = ["explain", str(whole.path), str(ready / "white"), "--artifact", "cascade", "--no-faithfulness"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "explained")])
    assert result.exit_code == 0, result.output
    for item, one in zip(
        json.loads(result.stdout)["pictures"], predict(whole, ready / "white", artifact="cascade"), strict=True
    ):
        assert item["unknown"] is True
        assert one.score is not None
        assert item["score"] == pytest.approx(one.score.value, rel=1e-5)


def test_too_few_pictures_tell_nothing_and_it_is_said(ready: Path, tmp_path: Path) -> None:
    whole, small = Run.open(ready / "whole"), Run.open(ready / "small")
    routes = (graph_of(small, None, "onnxruntime").put(tmp_path), graph_of(whole, None, "onnxruntime").put(tmp_path))
    plan, data, said = Plan(routes, (0.8,)), load(ready / "data"), list[str]()
    few = tell(whole, data, pictures(18), tmp_path, plan, 1, said.append)
    assert (few.plan, few.unknown, few.routes) == (plan, {}, ({}, {}))
    assert "18 validation pictures are too few for a threshold (19 are needed)" in few.notes[0]
    assert said == ["unknown: 18 validation pictures are too few for a threshold (19 are needed), so none is called so"]
    untaught = replace(data, samples=tuple(one for one in data.samples if one.split != "train"))
    none = tell(whole, untaught, pictures(20), tmp_path, plan, 1, said.append)
    assert (none.plan, none.unknown) == (plan, {})
    assert "the data has no training part" in none.notes[0]
    assert said[1:] == ["unknown: the data has no training part to compare with, so none is called so"]
    assert not list(tmp_path.glob("*-reference.safetensors"))
    enough = tell(whole, data, pictures(19), tmp_path, plan, 1, said.append)
    backend = open_backend("adaptive", tmp_path / "adaptive.json", 1)
    (unlike,) = backend.answer(pictures(19), (UNLIKE,))
    assert enough.unknown["threshold"] == pytest.approx(unlike.max(), rel=1e-6)
    assert alarms(np.zeros(0, np.float32), 1.0) == {"validation": 0, "alarms": None}


def test_what_is_faster_only_while_it_tells_nothing_is_refused(ready: Path, tmp_path: Path) -> None:
    """It is timed again as `predict` asks, beside the whole network as `predict` asks that."""
    whole, small = (Run.open(shutil.copytree(ready / name, tmp_path / name)) for name in ("whole", "small"))
    before, sides = open_artifact(whole, "cascade").path.joinpath("card.json").read_bytes(), []

    def slower(first: Any, second: Any, pixels: Any, routes: int) -> Any:
        sides.append((first, second))
        return timing(0.9 if isinstance(second, Asking) else 2.0)(first, second, pixels, routes)

    stubs = {"timing": slower, "rating": rating(resnet18=1000.0)}
    with pytest.raises(AdaptationError, match="once each of its routes tells what is unknown"):
        cascade(whole, load(ready / "data"), [small_of(whole, small)], name="cascade", rule="cascade", **stubs)
    assert open_artifact(whole, "cascade").path.joinpath("card.json").read_bytes() == before
    asked = sides[-1][1]
    square = pictures(3)
    (probabilities,) = asked.answer(square, ("probabilities",))
    expected = asked.predictor.ask(square, ("probabilities", UNLIKE))
    np.testing.assert_array_equal(probabilities, expected[0])
    assert asked.predictor.unknowns is not None


def rewritten(run: Run, *, plan: bool, card: bool) -> None:
    """Takes off what tells unknown pictures: of the plan, of the card; as artefacts were made before."""
    artifact = open_artifact(run, "cascade")
    own = json.loads((artifact.path / "card.json").read_text())
    if plan:
        plain_plan = json.loads(artifact.graph.read_text())
        for route in plain_plan["routes"]:
            del route["reference"]
            (artifact.path / f"{route['name']}-reference.safetensors").unlink()
            del own["files"][f"{route['name']}-reference.safetensors"]
        artifact.graph.write_text(json.dumps(plain_plan))
        own["files"]["adaptive.json"] = hashlib.sha256(artifact.graph.read_bytes()).hexdigest()
    if card:
        own["unknown"] = {}
    (artifact.path / "card.json").write_text(json.dumps(own))


def copied(ready: Path, folder: Path) -> Run:
    shutil.copytree(ready / "whole", folder / "whole")
    return Run.open(folder / "whole")


def test_artefacts_of_before_answer_as_before(ready: Path, tmp_path: Path) -> None:
    now, before = Run.open(ready / "whole"), copied(ready, tmp_path)
    rewritten(before, plan=True, card=True)
    open_artifact(before, "cascade").verify()
    files = [str(file) for file in sorted((ready / "data" / "test").rglob("*.png"))[:20]]
    for old, new in zip(*(predict(run, files, artifact="cascade", threads=1) for run in (before, now)), strict=True):
        assert old == replace(new, unknown=None, score=None)
    assert evaluate_run(before, artifact="cascade", threads=1, data=str(ready / "data")).unknown is None


@pytest.mark.parametrize("only", [{"plan": True, "card": False}, {"plan": False, "card": True}])
def test_a_card_and_a_plan_that_differ_are_refused(only: dict[str, bool], ready: Path, tmp_path: Path) -> None:
    run = copied(ready, tmp_path)
    rewritten(run, **only)
    with pytest.raises(RunError, match="cannot be asked what is unknown"):
        Predictor(run, artifact="cascade", threads=1)


def test_a_score_of_another_kind_is_refused(ready: Path, tmp_path: Path) -> None:
    run = copied(ready, tmp_path)
    path = run.path / "artifacts" / "cascade" / "card.json"
    path.write_text(path.read_text().replace("knn-whitened-by-route", "knn-whitened"))
    with pytest.raises(RunError, match="tells unknown pictures by 'knn-whitened', this version by 'knn-whitened-by"):
        _ = Predictor(run, artifact="cascade", threads=1).unknowns
