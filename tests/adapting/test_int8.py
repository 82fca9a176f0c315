"""int8 artefacts as routes: in ONNX and in OpenVINO's own format, at the Run's size and asked at a larger one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.adapting.small import rating, timing
from tests.exporting.int8.small import pictures, small_run
from tests.exporting.int8.small import timing as rates
from tests.inference.tiny import SIZE, make_run
from typer.testing import CliRunner

from resight.adapting.cascades import Adapted, cascade, small_of
from resight.adapting.graphs import Graph, graph_of, renamed
from resight.adapting.timing import Pace
from resight.cli import app
from resight.commands.adapt import adapt
from resight.commands.predict import predict
from resight.errors import AdaptationError, RunError, UsageError
from resight.evaluation import softmax
from resight.exporting.int8 import quantize
from resight.inference import Backend, open_backend
from resight.inference.plan import Plan
from resight.runs import ONNX, Architecture, Run, open_artifact
from resight.samples import SampleSet, load

pytest.importorskip("openvino")
ARTIFACTS = ("onnx-int8", "openvino-int8")
OUTPUTS = ("route", "logits", "probabilities")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Run ``run``, which has both int8 artefacts, and ``small``, whose last layer errs."""
    folder = tmp_path_factory.mktemp("int8")
    run, samples = small_run(folder)
    quantize(run, samples, to=["onnx", "openvino"], threads=1, timing=rates())
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(run.read(ONNX))
    for tensor in model.graph.initializer:
        if tensor.name == "net.fc.bias":
            bias = numpy_helper.to_array(tensor) + np.array([0.6, 0, 0], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    fields = {"architecture": Architecture("resnet20")}
    small = make_run(folder / "small", data=samples, model=model.SerializeToString(), fields=fields)
    quantize(small, samples, to=["onnx"], max_drop=100, threads=1, timing=rates())
    return folder


def data(folder: Path) -> SampleSet:
    return load(folder / "data", val_fraction=0, test_fraction=0)


def made(folder: Path, name: str, **changed: object) -> Adapted:
    """small in int8 by ONNX Runtime first, the whole network in int8 by OpenVINO where it is unsure."""
    run, small = Run.open(folder / "run"), Run.open(folder / "small")
    arguments = {"timing": timing(), "rating": rating(**{"resnet20-int8": 1000.0, "resnet18-int8": 200.0})} | changed
    last = graph_of(run, "openvino-int8", "onnxruntime")
    smalls = [small_of(run, small, "onnx-int8")]
    return cascade(run, data(folder), smalls, name=name, rule="cascade", last=last, **arguments)  # type: ignore[arg-type]


def asked(graph: Graph, folder: Path) -> Backend:
    route = graph.put(folder)
    return open_backend(route.backend, folder / route.graph, 1, sha256=route.sha256, weights=route.weights)


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_the_reduction_is_part_of_int8_graphs(artifact: str, ready: Path, tmp_path: Path) -> None:
    """As the network answers for the smaller picture, up to a rounding of pixels that int8 makes a step of; and the
    numbers stay in int8.
    """
    graph = graph_of(Run.open(ready / "run"), artifact, "onnxruntime")
    small = replace(graph.smaller(2 * SIZE, SIZE), name="small")
    doubled = pictures(60).repeat(2, 1).repeat(2, 2)
    halved = [Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for one in doubled]
    (expected,) = asked(graph, tmp_path).answer(np.stack([np.asarray(one) for one in halved]), ("logits",))
    (found,) = asked(small, tmp_path).answer(doubled, ("logits",))
    assert np.abs(expected - found).mean() < 0.02 * expected.std()
    assert (expected.argmax(1) == found.argmax(1)).mean() > 0.95
    before, after = graph.weights or graph.data, small.weights or small.data
    assert len(after) < len(before) + 4 * 2 * SIZE * SIZE + 2000
    with pytest.raises(RunError, match="cannot be asked"):
        graph.smaller(SIZE, SIZE)


@pytest.mark.parametrize("first", ARTIFACTS)
def test_every_path_answers_alone_as_in_a_batch(first: str, ready: Path, tmp_path: Path) -> None:
    """Each route against the artefact's own session, asked for one picture."""
    run = Run.open(ready / "run")
    graphs = [replace(graph_of(run, name, "onnxruntime"), name=name) for name in (first, "openvino-int8")]
    graphs[1] = replace(graphs[1], name="last")
    pixels = pictures(48, seed=5)
    sessions = [asked(graph, tmp_path) for graph in graphs]
    (logits,) = sessions[0].answer(pixels, ("logits",))
    sure = np.sort(softmax(logits / 1.5).max(axis=1))
    routes = (graphs[0].put(tmp_path, 1.5), graphs[1].put(tmp_path, 0.5))
    plan = Plan(routes, (float(sure[23] + sure[24]) / 2,), temperature=2.0)
    (tmp_path / "adaptive.json").write_bytes(plan.to_json())
    sha256 = hashlib.sha256(plan.to_json()).hexdigest()
    backend = open_backend("adaptive", tmp_path / "adaptive.json", 1, sha256=sha256)
    together = backend.answer(pixels, OUTPUTS)
    assert (together[0] == 0).sum() == 24
    for k, square in enumerate(pixels):
        number = int(together[0][k])
        own = sessions[number].answer(square[None], ("logits",))[0][0] / routes[number].temperature
        np.testing.assert_allclose(together[1][k], own, atol=1e-5)
        for many, single in zip(together, backend.answer(square[None], OUTPUTS), strict=True):
            np.testing.assert_allclose(many[k], single[0], atol=1e-5)


def test_a_cascade_of_int8_is_counted_against_fp32(ready: Path) -> None:
    artifact = made(ready, "cascade").artifact
    run, card = Run.open(ready / "run"), artifact.card
    routes = card.adaptive["routes"]
    assert card.precision == "int8"
    assert [tuple(r[key] for key in ("name", "backend", "precision", "artifact")) for r in routes] == [
        ("resnet20-int8", "onnxruntime", "int8", "onnx-int8"),
        ("resnet18-int8", "openvino", "int8", "openvino-int8"),
    ]
    assert set(card.environment) >= {"onnxruntime", "openvino"}
    assert card.adaptive["whole"]["name"] == "resnet18"
    assert card.adaptive["last"]["name"] == "resnet18-int8"
    artifact.verify()
    samples = data(ready)
    files = [str(samples.root / one.name) for one in samples.samples if one.split == "test"]
    names = [one.name for one in samples.samples if one.split == "test"]
    found = predict(run, files, artifact="cascade", threads=1)
    assert card.unknown["score"] == "knn-whitened-by-route"
    assert all(one.unknown is not None for one in found)
    assert {one.route for one in found} == {"resnet20-int8", "resnet18-int8"}
    sides = {
        "resnet20-int8": predict(Run.open(ready / "small"), files, artifact="onnx-int8", threads=1),
        "resnet18-int8": predict(run, files, artifact="openvino-int8", threads=1),
    }
    for number, one in enumerate(found):
        assert one.route is not None
        assert one.label == sides[one.route][number].label
    truth = [name.split("/")[1] for name in names]
    fp32 = np.mean([one.label == label for one, label in zip(predict(run, files, threads=1), truth, strict=True)])
    own = np.mean([one.label == label for one, label in zip(found, truth, strict=True)])
    assert card.adaptive["lost"]["test"]["value"] == pytest.approx(fp32 - own)


def test_it_must_be_faster_than_the_artefact_alone(ready: Path) -> None:
    """Twice as fast as fp32, and slower than int8 without a cascade."""
    asked_of: list[Backend] = []

    def paces(whole: Backend, adaptive: Backend, pixels: NDArray[np.uint8], routes: int) -> Pace:
        asked_of.append(whole)
        found: Pace = timing(2.0 if len(asked_of) == 1 else 0.9, 2.0)(whole, adaptive, pixels, routes)
        return found

    with pytest.raises(AdaptationError, match="not faster than resnet18-int8 alone"):
        made(ready, "slow", timing=paces)
    assert len(asked_of) == 2
    with pytest.raises(AdaptationError, match="no threshold is both"):  # int8 alone is expected to be faster
        made(ready, "slow", rating=rating(**{"resnet20-int8": 150.0, "resnet18-int8": 200.0}))
    assert not (ready / "run" / "artifacts" / "slow").exists()


def test_names_of_routes_differ() -> None:
    graphs = [Graph(name, "onnxruntime", b"") for name in ("a", "a-int8", "a-int8", "b")]
    assert [graph.name for graph in renamed(graphs, ["a"])] == ["a-first", "a-int8", "a-int8-3", "b"]


def test_what_cannot_be_a_route_is_said(ready: Path) -> None:
    run = Run.open(ready / "run")
    made(ready, "several")
    with pytest.raises(UsageError, match="answers with several graphs"):
        graph_of(run, "several", "onnxruntime")
    with pytest.raises(UsageError, match=r"no artefact 'openvino-int8'; it has: onnx-int8") as error:
        adapt(run, with_=f"{ready / 'small'}:openvino-int8")
    assert f"resight export {ready / 'small'} --to openvino --int8" in str(error.value.hint)
    for more, words in (
        (["--by", "patches", "--artifact", "onnx-int8"], "--artifact has no effect with --by patches"),
        (["--with", str(ready / "small"), "--artifact", "none"], "no artefact 'none'"),
        (["--with", f"{run.path}:onnx-int8", "--name", "onnx-int8"], "cannot be replaced by one that is made of it"),
    ):
        result = CliRunner().invoke(app, ["adapt", str(run.path), *more])
        assert isinstance(result.exception, UsageError)
        assert words in result.exception.message
    binary = open_artifact(run, "openvino-int8").graph.with_suffix(".bin")
    before = binary.read_bytes()
    binary.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        with pytest.raises(RunError, match="was changed"):
            graph_of(run, "openvino-int8", "onnxruntime")
    finally:
        binary.write_bytes(before)
