"""``resight adapt --by cascade|resolution``: thresholds from validation, kept only if faster and within the budget."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.adapting.small import LEANING, pictures, rating, tensors, timing, two_runs
from tests.inference.tiny import SIZE, graph, last_layer, make_run
from typer.testing import CliRunner

from resight.adapting.cascade import Two, curve, operating_point
from resight.adapting.cascades import cascade, small_of
from resight.adapting.smaller import shrinking, smaller
from resight.adapting.timing import Pace, evenly_mixed, pace
from resight.cli import app
from resight.commands.eval import evaluate_run
from resight.commands.predict import predict
from resight.errors import AdaptationError, RunError, UsageError
from resight.explaining import class_activation
from resight.images import Geometry
from resight.inference import Predictor, open_backend, plain
from resight.inference.plan import read_plan
from resight.runs import Architecture, Run, open_artifact
from resight.serving.heat import OUTPUTS, draw
from resight.serving.limits import Limits
from resight.serving.models import open_model


def made(folder: Path, max_drop: float = 0.5) -> tuple[Run, Run]:
    whole, small, data = two_runs(folder)
    cascade(
        whole,
        data,
        [small_of(whole, small)],
        name="cascade",
        rule="cascade",
        max_drop=max_drop,
        timing=timing(),
        rating=rating(resnet18=1000.0),
    )
    return whole, small


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Runs ``whole``, which has the artefact, and ``small``, and their ``data``: only to be read."""
    folder = tmp_path_factory.mktemp("adapted")
    made(folder)
    return folder


def test_the_curve_counts_every_threshold() -> None:
    """Against counting by hand: accuracy and time from nobody going on to everybody."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 50)
    small, whole = random.normal(size=(2, 50, 3)).astype(np.float32)
    whole[np.arange(50), labels] += 3
    two = Two.of(small, whole, labels, (0.1, 1.0))
    points = curve(two, 11)
    assert points[0].on == 0
    assert points[-1].on == 1
    assert points[0].accuracy == (small.argmax(1) == labels).mean()
    assert points[-1].accuracy == (whole.argmax(1) == labels).mean()
    exponents = np.exp(small / two.temperatures[0])
    sure = (exponents / exponents.sum(1, keepdims=True)).max(1)
    for point in points:
        on = [bool(one < point.threshold) for one in sure]
        answered = [int((w if go else s).argmax()) for go, s, w in zip(on, small, whole, strict=True)]
        assert point.on == pytest.approx(np.mean(on))
        assert point.accuracy == pytest.approx(np.mean(np.array(answered) == labels))
        assert point.seconds == pytest.approx(0.1 + np.mean(on) * 1.0)
    best = operating_point(points, points[-1].accuracy, 10)
    assert best is not None
    quicker = [point for point in points if point.seconds < best.seconds]
    assert all(100 * (points[-1].accuracy - point.accuracy) > 10 for point in quicker)
    assert operating_point(points, 1.5, 0) is None


def test_the_reduction_is_pillows(tmp_path: Path) -> None:
    """As Pillow resizes, to its rounding; and the graph answers as the network does for the smaller picture."""
    square = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    matrix = shrinking(32, 20)
    own = np.einsum("ij,jkc,lk->ilc", matrix, square.astype(float), matrix)
    theirs = np.asarray(Image.fromarray(square).resize((20, 20), Image.Resampling.BILINEAR), float)
    assert np.abs(own - theirs).max() <= 1.0
    (tmp_path / "native.onnx").write_bytes(graph(size=20).SerializeToString())
    (tmp_path / "shrunk.onnx").write_bytes(smaller(graph(size=20).SerializeToString(), 32, 20))
    (tmp_path / "same.onnx").write_bytes(smaller(graph(size=32).SerializeToString(), 32, 20))
    native, shrunk, same = (
        open_backend("onnxruntime", tmp_path / f"{n}.onnx", 1) for n in ("native", "shrunk", "same")
    )
    expected = native.answer(theirs.astype(np.uint8)[None], ("logits", "features"))
    for backend in (shrunk, same):
        found = backend.answer(square[None], ("logits", "features"))
        np.testing.assert_allclose(found[0], expected[0], atol=0.03)
        assert found[1].shape == expected[1].shape
    with pytest.raises(RunError, match="cannot be asked"):
        smaller(graph(size=20).SerializeToString(), 20, 20)


def test_openvino_answers_the_reduced_graph_alike(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "shrunk.onnx"
    path.write_bytes(smaller(graph(size=20).SerializeToString(), 32, 20))
    square = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    one, other = (
        open_backend(name, path, 1).answer(square, ("probabilities",))[0] for name in ("onnxruntime", "openvino")
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_cascade_answers_everywhere(ready: Path) -> None:
    """The artefact, its card, `predict`, `eval`, and that the test part had no say."""
    whole, small = Run.open(ready / "whole"), Run.open(ready / "small")
    card = open_artifact(whole, "cascade").card
    about = card.adaptive
    assert [route["name"] for route in about["routes"]] == ["resnet18", "resnet50"]
    for part in ("val", "test"):
        shares = [route["share"][part] for route in about["routes"]]
        assert sum(shares) == pytest.approx(1)
        assert 0 < shares[1] < 1
    assert 100 * about["lost"]["val"]["value"] <= 0.5
    assert (whole.path / "artifacts" / "cascade" / "curve.png").read_bytes().startswith(b"\x89PNG")
    files = sorted((ready / "data" / "test").rglob("*.png"))
    found = predict(whole, [str(file) for file in files], artifact="cascade", threads=1)
    routes = [one.route for one in found]
    assert {"resnet18", "resnet50"} == set(routes)
    share = about["routes"][1]["share"]["test"]
    assert routes.count("resnet50") / len(files) == pytest.approx(share)
    answers = {
        name: predict(run, [str(f) for f in files], threads=1)
        for name, run in (("resnet18", small), ("resnet50", whole))
    }
    for number, one in enumerate(found):
        assert one.route is not None
        assert one.label == answers[one.route][number].label
    result = evaluate_run(whole, artifact="cascade", threads=1)
    value = result.evaluation.metrics["accuracy"].value
    assert value == pytest.approx(card.metrics["test"]["metrics"]["accuracy"]["value"])
    assert value >= evaluate_run(small, threads=1).evaluation.metrics["accuracy"].value


def test_the_route_is_a_column_only_where_there_are_several(ready: Path, tmp_path: Path) -> None:
    whole = Run.open(ready / "whole")
    files = [str(file) for file in sorted((ready / "data" / "test").rglob("*.png"))[:4]]
    for artifact, there in (("cascade", True), (None, False)):
        found = predict(whole, files, artifact=artifact, threads=1)
        found.to_csv(tmp_path / "out.csv")
        with (tmp_path / "out.csv").open() as file:
            assert ("route" in next(csv.reader(file))) == there
        found.to_json(tmp_path / "out.json")
        assert all(("route" in row) == there for row in json.loads((tmp_path / "out.json").read_text()))
        parquet = pytest.importorskip("pyarrow.parquet")
        found.to_parquet(tmp_path / "out.parquet")
        assert ("route" in parquet.read_schema(tmp_path / "out.parquet").names) == there


def test_what_is_not_faster_or_loses_too_much_is_refused(tmp_path: Path) -> None:
    whole, small, data = two_runs(tmp_path)
    smalls = [small_of(whole, small)]
    arguments = {"name": "cascade", "rule": "cascade"}
    told: list[str] = []
    with pytest.raises(AdaptationError, match="not faster than the whole network") as error:
        cascade(
            whole, data, smalls, **arguments, timing=timing(sixteen=0.9), rating=rating(resnet18=1e3), say=told.append
        )
    assert error.value.exit_code == 1
    assert "resnet18 alone" in "\n".join(told)
    with pytest.raises(AdaptationError, match="no threshold is both within the budget and faster"):
        cascade(whole, data, smalls, **arguments, timing=timing(), rating=rating(resnet18=1.0))
    with pytest.raises(AdaptationError, match="resnet18 alone is within the budget: use that Run"):
        cascade(whole, data, smalls, **arguments, max_drop=100, timing=timing(), rating=rating(resnet18=1e3))
    assert not (whole.path / "artifacts" / "cascade").exists()
    with pytest.raises(UsageError, match="points of accuracy"):
        cascade(whole, data, smalls, **arguments, max_drop=-1)


def test_maps_are_of_the_network_that_answered(ready: Path, tmp_path: Path) -> None:
    """Against each network's own features and last layer; their mean is what was answered, before the temperature."""
    whole = Run.open(ready / "whole")
    predictor = Predictor(whole, artifact="cascade", threads=1)
    squares = pictures(40, seed=3)
    maps, logits, route = predictor.ask(squares, ("features", "logits", "route"))
    assert set(route.tolist()) == {0.0, 1.0}
    plan = read_plan(open_artifact(whole, "cascade").graph, None)
    for number, name, head in ((0, "small", LEANING), (1, "whole", last_layer())):
        mine = route == number
        (features,) = Predictor(Run.open(ready / name), threads=1).ask(squares[mine], ("features",))
        for label in range(3):
            expected = class_activation(features, np.repeat(head[[label]], mine.sum(), axis=0))
            np.testing.assert_allclose(maps[mine][:, label], expected / plan.routes[number].temperature, atol=1e-4)
    np.testing.assert_allclose(maps.mean((2, 3)), logits, atol=1e-4)


def test_maps_of_a_network_that_sees_fewer_pixels_are_alike_alone_and_in_any_batch(tmp_path: Path) -> None:
    whole, _, data = two_runs(tmp_path)
    less = {"geometry": Geometry("crop", 5, 5)}
    small = make_run(
        tmp_path / "less",
        data=data,
        model=graph(size=5, head=LEANING).SerializeToString(),
        fields=less,
        tensors=tensors(LEANING),
    )
    arguments = {"name": "cascade", "rule": "cascade", "timing": timing(), "rating": rating(resnet18=1e3)}
    cascade(whole, data, [small_of(whole, small)], **arguments)
    predictor, squares = Predictor(whole, artifact="cascade", threads=2), pictures(40, seed=3)
    maps, logits, route = predictor.ask(squares, ("features", "logits", "route"))
    assert set(route.tolist()) == {0.0, 1.0}
    assert maps.shape == (40, 3, SIZE, SIZE)
    np.testing.assert_allclose(maps.mean((2, 3)), logits, atol=1e-4)
    for square, one in zip(squares, maps, strict=True):
        np.testing.assert_allclose(predictor.ask(square[None], ("features",))[0][0], one, atol=1e-5)


def test_a_strangers_name_writes_nothing_elsewhere(tmp_path: Path) -> None:
    whole, _, data = two_runs(tmp_path)
    (tmp_path / "victim.onnx").write_text("precious")
    name = {"architecture": Architecture(str(tmp_path / "victim"))}
    stranger = make_run(tmp_path / "stranger", data=data, model=graph(head=LEANING).SerializeToString(), fields=name)
    with pytest.raises(RunError, match="a route cannot be called"):
        cascade(
            whole, data, [small_of(whole, stranger)], name="cascade", rule="cascade", timing=timing(), rating=rating()
        )
    assert (tmp_path / "victim.onnx").read_text() == "precious"


def test_what_is_explained_says_who_answered(ready: Path, tmp_path: Path) -> None:
    photos = ready / "data" / "test"
    arguments = ["explain", str(ready / "whole"), str(photos), "--artifact", "cascade", "--no-faithfulness", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "explained")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["pictures"]
    predicted = {one.source: one.route for one in predict(ready / "whole", photos, artifact="cascade")}
    assert {item["source"]: item["route"] for item in found} == predicted
    assert set(predicted.values()) == {"resnet18", "resnet50"}
    assert "answered by resnet50" in (tmp_path / "explained" / "index.html").read_text("utf-8")


def test_an_artefact_without_last_layers_has_no_maps(ready: Path, tmp_path: Path) -> None:
    """As they were made before."""
    card = open_artifact(Run.open(ready / "whole"), "cascade").card
    assert card.no_maps == ""
    routes = [{k: v for k, v in route.items() if k != "maps"} for route in card.adaptive["routes"]]
    assert "make it again" in replace(card, adaptive=card.adaptive | {"routes": routes}).no_maps
    assert "rounds its last layer" in replace(card, precision="int8").no_maps


def test_the_page_shows_who_answered(ready: Path, tmp_path: Path) -> None:
    whole = Run.open(ready / "whole")
    result = evaluate_run(whole, artifact="cascade", threads=1, report=tmp_path / "page.html")
    assert result.route_shares.keys() == {"resnet18", "resnet50"}
    assert f"answered by: resnet18 {100 * result.route_shares['resnet18']:.1f} %" in result.to_text()
    assert result.to_dict()["routes"] == result.route_shares
    page = (tmp_path / "page.html").read_text("utf-8")
    for text in ("What was computed for which picture", "Answered by resnet50", "Time by class"):
        assert text in page
    assert "data:image/png" in page
    assert "routes" not in evaluate_run(whole, threads=1).to_dict()


def test_the_server_says_the_route(ready: Path) -> None:
    whole = Run.open(ready / "whole")
    loaded = open_model("colours", whole.path, backend="auto", limits=Limits(threads=1), artifact="cascade")
    predictor = loaded.predictor
    assert predictor.needed[-1] == "route"
    for square in pictures(20):
        rows = [array[0] for array in predictor.compute(square[None], predictor.needed, alone=True)]
        answered = plain(predictor.prediction("one", rows, 3))
        assert answered["route"] in ("resnet18", "resnet50")
    assert loaded.head is not None
    square = pictures(1)
    row = {name: array[0] for name, array in zip(OUTPUTS, predictor.compute(square, OUTPUTS, alone=True), strict=True)}
    assert draw(square[0], row, loaded.head, predictor.card.geometry, 1).startswith(b"\x89PNG")


def test_a_changed_plan_is_refused(tmp_path: Path) -> None:
    whole, _ = made(tmp_path)
    path = whole.path / "artifacts" / "cascade" / "adaptive.json"
    path.write_bytes(path.read_bytes().replace(b'"resnet18"', b'"resnet19"'))
    with pytest.raises(RunError, match="was changed"):
        Predictor(whole, artifact="cascade", threads=1)


@pytest.mark.parametrize("change", ["reversed", "fewer", "none"])
def test_a_card_that_names_other_routes_than_the_plan_is_refused(change: str, tmp_path: Path) -> None:
    whole, _ = made(tmp_path)
    path = whole.path / "artifacts" / "cascade" / "card.json"
    card = json.loads(path.read_text())
    routes = card["adaptive"]["routes"]
    changed = {"reversed": routes[::-1], "fewer": routes[1:]}.get(change)
    card["adaptive"] = {} if changed is None else card["adaptive"] | {"routes": changed}
    path.write_text(json.dumps(card))
    with pytest.raises(RunError, match="name different routes"):
        Predictor(whole, artifact="cascade", threads=1)


def test_half_of_the_rounds_are_not_faster() -> None:
    found = Pace((1.2, 0.9, 1.4), (1.2, 0.9, 1.4), 0.01, (1.0, 1.0), 20, 7, (0.98, 1.1))
    assert not found.faster
    assert replace(found, likely=(1.01, 1.1)).faster


def test_pictures_for_timing_are_mixed_as_all_are() -> None:
    routes = np.repeat(np.array([0, 1], np.float32), (75, 25))
    chosen = evenly_mixed(routes, 20)
    assert len(set(chosen)) == 20
    assert (routes[chosen] == 1).sum() == 5


def test_pace_measures_the_routes(ready: Path) -> None:
    """A real measurement: that it is complete, not how fast it was."""
    whole = Run.open(ready / "whole")
    artifact = open_artifact(whole, "cascade")
    backend = open_backend("adaptive", artifact.graph, 1, sha256=artifact.sha256)
    found = pace(
        open_backend("onnxruntime", whole.path / "model.onnx", 1), backend, pictures(30), 2, rounds=2, seconds=0.01
    )
    assert found.pictures == 30
    assert found.one[1] <= found.one[0] <= found.one[2]
    assert all(one is not None and one > 0 for one in found.routes)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--by", "nothing"], "no way 'nothing'"),
        (["--by", "cascade"], "needs a small Run"),
        (["--by", "resolution", "--with", "x"], "--with has an effect only"),
        (["--by", "cascade", "--with", "x", "--size", "8"], "--size has an effect only"),
        (["--by", "resolution", "--size", "99"], "not between"),
        (["--by", "resolution", "--backend", "adaptive"], "no backend 'adaptive'"),
    ],
)
def test_wishes_that_cannot_be_met(more: list[str], words: str, tmp_path: Path) -> None:
    whole, _, data = two_runs(tmp_path, {"train": 12, "val": 12})
    result = CliRunner().invoke(app, ["adapt", str(whole.path), str(data.root), *more])
    assert isinstance(result.exception, UsageError)
    assert words in result.exception.message
