"""``resight adapt --by blocks --artifact``: sub-networks in int8, as the Run's artefact is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adapting.residual import config_of, network, pixels, seal
from tests.adapting.small import rating, timing
from tests.exporting.int8.small import timing as rates
from tests.training.tiny import Recorder, write_patterns

from resight import samples as data_sets
from resight.adapting import policies, routing, subnetworks
from resight.adapting.cascades import Adapted
from resight.adapting.dropping import without
from resight.adapting.graphs import Graph
from resight.adapting.learning import Learned, learn
from resight.adapting.policies import blocks, measure_costs
from resight.adapting.reinforce import PolicySettings
from resight.adapting.rewards import Costs
from resight.adapting.subnetworks import Parts, int8_of
from resight.commands.predict import predict
from resight.errors import AdaptationError, RunError, UsageError
from resight.exporting.int8 import budget, quantize
from resight.exporting.int8.loss import spreads_apart
from resight.exporting.int8.search import Search, _made
from resight.inference import Backend, open_backend
from resight.runs import ONNX, Run, open_artifact
from resight.samples import SampleSet

pytest.importorskip("openvino")
pytest.importorskip("nncf")
ARTIFACTS = ("onnx-int8", "openvino-int8")
KEPT = ("layer1.1.conv1", "layer2.1.conv2", "fc")
FOUR = Costs(1.0, (1.0,) * 4)
OUTPUTS = ("route", "logits", "probabilities")
SETTINGS = PolicySettings(penalty=0.0, curriculum=0.2, joint=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return data_sets.load(
        write_patterns(tmp_path_factory.mktemp("patterns"), 16), seed=0, val_fraction=0.3, test_fraction=0.1
    )


@pytest.fixture(scope="module")
def ready(data: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A ResNet-14 with both int8 artefacts, where the layers ``KEPT`` stayed in fp32."""

    def found(workshop: Any, val: Any, loss: Any, *_: Any) -> Search:
        layers = workshop.target.layers(workshop.model)
        kept = [layer for layer in layers if layer.name in KEPT]
        made = _made(workshop, "by hand", kept, layers, val, loss)
        assert made is not None
        return Search((made,))

    run = seal(tmp_path_factory.mktemp("runs") / "run", network("resnet14", ("layer3.1",)), "resnet14")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "search", found)
        quantize(run, data, to=["onnx", "openvino"], max_drop=100, threads=1, timing=rates())
    return run


@pytest.fixture(scope="module")
def learned(ready: Run, data: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """A policy that drops something."""
    run = Run.open(shutil.copytree(ready.path, tmp_path_factory.mktemp("policy") / "run"))
    config = config_of(run, data, epochs=4.0, joint=1.0)
    config.optimizer.lr = 0.01
    found = learn(run, data, config, SETTINGS, "blocks", lambda: FOUR, Recorder(), {})
    assert found.history[-1]["share"] < 1
    return found


def copied(run: Run, folder: Path) -> Run:
    return Run.open(shutil.copytree(run.path, folder / "run"))


def int8_weights(graph: Graph) -> tuple[int, int]:
    """How many constants of int8 have more than one axis, as the weights of layers do, and their largest number."""
    if graph.weights is None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load_model_from_string(graph.data)
        found = [
            numpy_helper.to_array(one) for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8
        ]
    else:
        from resight.inference.openvino import core, load_openvino

        model = core().read_model(graph.data, load_openvino().Tensor(np.frombuffer(graph.weights, np.uint8)))
        constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
        found = [op.data for op in constants if op.get_element_type().get_type_name() == "i8"]
    weights = [one for one in found if one.ndim > 1]
    return len(weights), max(int(np.abs(one.astype(int)).max()) for one in weights)


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_a_sub_network_is_quantized_as_the_artefact_was(
    artifact: str, ready: Run, data: SampleSet, tmp_path: Path
) -> None:
    """Layers of fp32 stay so where they are still there, what was dropped is not there, and the answers are those of
    the same blocks in fp32, up to roundings.
    """
    int8 = int8_of(ready, artifact, "onnxruntime")
    assert int8.kept == KEPT
    assert int8.pictures == len([one for one in data.samples if one.split == "train"])
    parts = Parts.of(ready, data, "onnxruntime", 1, tmp_path, int8)
    dropped = ["layer1.0", "layer2.1", "layer3.1"]
    part = parts.made("part", ready.read(ONNX), dropped)
    assert (part.graph.precision, part.graph.backend) == ("int8", int8.target.runtime)
    assert (part.apart is None) == (artifact == "onnx-int8")
    assert part.sound
    count, largest = int8_weights(part.graph)
    layers = [layer.name for layer in int8.target.layers(_prepared(ready)) if layer.nodes]
    weighted = [name for name in layers if name.rpartition(".")[2] not in ("add", "pool")]
    gone = tuple(f"{block}." for block in dropped)
    assert count == len([name for name in weighted if not name.startswith(gone) and name not in KEPT])
    assert (largest <= 64) == int8.seven_bits
    (tmp_path / "plain.onnx").write_bytes(without(ready.read(ONNX), dropped))
    (plain,) = open_backend("onnxruntime", tmp_path / "plain.onnx", 1).answer(pixels(30), ("logits",))
    (own,) = part.backend.answer(pixels(30), ("logits",))
    (fp32,) = part.fp32.answer(pixels(30), ("logits",))
    (whole,) = open_backend("onnxruntime", ready.file(ONNX), 1).answer(pixels(30), ("logits",))
    np.testing.assert_allclose(fp32, plain, atol=1e-5)
    assert 0 < spreads_apart(plain, own) < 0.15 < 0.3 < spreads_apart(plain, whole)
    other = replace(parts, int8=replace(int8, seven_bits=not int8.seven_bits)).made("other", ready.read(ONNX), dropped)
    assert (int8_weights(other.graph)[1] <= 64) != int8.seven_bits
    with pytest.raises(RunError, match=r"keeps layer9\.0\.conv1 in fp32, and this network has no such layer"):
        replace(parts, int8=replace(int8, kept=("layer9.0.conv1",))).made("none", ready.read(ONNX), [])


def _prepared(run: Run) -> Any:
    from resight.exporting.int8.graph import prepared

    return prepared(run.read(ONNX), 1.0)


def made(run: Run, data: SampleSet, learned: Learned, artifact: str, **changed: Any) -> Adapted:
    """With the policy of ``learned``, of which one route is made; ``changed["asked"]`` gets what learning is given."""
    asked = changed.pop("asked", [])

    def known(*arguments: Any) -> Learned:
        asked.append(arguments)
        return replace(learned, folder=run.path / "none")

    speed = rating(whole=100.0, gate=10_000.0, **{"whole-int8": 200.0}, **{f"route-{k}": 800.0 for k in range(3)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "learn", known)
        patch.setattr(routing, "MOST", 1)  # each takes seconds to quantize
        arguments: dict[str, Any] = {"max_drop": 100, "timing": timing(), "rating": speed, "name": "blocks"} | changed
        return blocks(
            run, data, config_of(run, data), settings=SETTINGS, report=Recorder(), artifact=artifact, **arguments
        )


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_an_artefact_of_int8_sub_networks(
    artifact: str, ready: Run, data: SampleSet, learned: Learned, tmp_path: Path
) -> None:
    """Every route is int8 in the artefact's runtime; answers are alike alone and in a batch, and those of the route.
    One of them as if the network had learned, too: its graph is then exported anew.
    """
    run, asked = copied(ready, tmp_path), []
    found = made(run, data, replace(learned, changed=artifact == "openvino-int8"), artifact, asked=asked)
    card, runtime = found.artifact.card, artifact.removesuffix("-int8").replace("onnx", "onnxruntime")
    found.artifact.verify()
    assert card.precision == "int8"
    routes = card.adaptive["routes"]
    assert {(route["backend"], route["precision"], route["maps"]) for route in routes} == {(runtime, "int8", False)}
    assert [route["artifact"] for route in routes] == [None] * (len(routes) - 1) + [artifact]
    assert all(route["name"].endswith("-int8") for route in routes)
    assert card.adaptive["whole"]["name"] == "whole"
    assert card.adaptive["last"]["name"] == "whole-int8"
    assert card.adaptive["int8"]["fp32_layers"] == list(KEPT)
    assert card.adaptive["int8"]["artifact"] == artifact
    assert [row.name for row in found.rows[:2]] == ["whole", "whole-int8 alone"]
    assert ("nncf" in card.environment) == (runtime == "openvino")
    backend = open_backend("adaptive", found.artifact.graph, 1, sha256=found.artifact.sha256)
    squares = pixels(12)
    together = backend.answer(squares, OUTPUTS)
    for k, square in enumerate(squares):
        for many, single in zip(together, backend.answer(square[None], OUTPUTS), strict=True):
            np.testing.assert_allclose(many[k], single[0], atol=1e-5)
        route = backend.plan.routes[int(together[0][k])]
        own = found.artifact.graph.with_name(route.graph)
        session = open_backend(route.backend, own, 1, sha256=route.sha256, weights=route.weights)
        (logits,) = session.answer(square[None], ("logits",))
        np.testing.assert_allclose(together[1][k], logits[0] / route.temperature, atol=1e-5)
    answered = predict(run, [str(data.root / one.name) for one in data.samples[:4]], artifact="blocks", threads=1)
    assert all(one.route is not None and one.route.endswith("-int8") for one in answered)
    assert card.no_maps
    int8, own = int8_of(run, artifact, "onnxruntime"), open_artifact(run, artifact)
    begun = {"backend": "onnxruntime", "threads": 1, "sha256": own.sha256, "weights": own.weights}
    assert asked[0][-1] == begun | int8.to_dict()
    assert (own.weights is not None) == artifact.startswith("openvino")


def test_costs_are_those_of_what_will_answer(ready: Run, data: SampleSet, tmp_path: Path) -> None:
    seen: list[str] = []

    def measured(sides: Mapping[str, Backend], shape: Sequence[int]) -> Any:
        seen.extend(type(side).__name__ for side in sides.values())
        return rating(whole=1.0, layer1=4.0, layer2=2.0, layer3=1.25)(sides, shape)

    parts = Parts.of(ready, data, "onnxruntime", 1, tmp_path, int8_of(ready, "openvino-int8", "onnxruntime"))
    found = measure_costs(ready, parts, measured)
    assert seen == ["OpenVino"] * 4
    np.testing.assert_allclose(found.blocks, [0.375, 0.375, 0.5, 0.2])


def test_it_must_be_faster_than_the_artefact_alone(
    ready: Run, data: SampleSet, learned: Learned, tmp_path: Path
) -> None:
    """Twice as fast as fp32, and slower than int8 without a policy, as measured or as expected."""
    run, asked_of = copied(ready, tmp_path), []

    def paces(whole: Backend, adaptive: Backend, squares: Any, routes: int) -> Any:
        asked_of.append(whole)
        return timing(2.0 if len(asked_of) == 1 else 0.9)(whole, adaptive, squares, routes)

    with pytest.raises(AdaptationError, match="not faster than whole-int8 alone") as error:
        made(run, data, learned, "onnx-int8", timing=paces)
    assert len({id(whole) for whole in asked_of}) == 2
    assert "use the artefact onnx-int8 alone" in str(error.value.hint)
    slow = rating(whole=100.0, gate=1e6, **{"whole-int8": 200.0}, **{f"route-{k}": 150.0 for k in range(3)})
    with pytest.raises(AdaptationError, match="nothing is both within the budget and faster"):
        made(run, data, learned, "onnx-int8", rating=slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subnetworks, "APART", 0.0)
        with pytest.raises(AdaptationError, match=r"OpenVINO computes it wrongly: .*: no sub-network is"):
            made(run, data, learned, "openvino-int8")
    assert not (run.path / "artifacts" / "blocks").exists()


def test_what_is_no_int8_artefact_is_said(ready: Run, tmp_path: Path) -> None:
    run = copied(ready, tmp_path)
    with pytest.raises(UsageError, match=r"has no artefact 'openvino'; it has: onnx-int8, openvino-int8"):
        int8_of(run, "openvino", "onnxruntime")
    from resight.runs.artifact_card import ArtifactCard

    place = open_artifact(run, "onnx-int8").path / "card.json"
    card = ArtifactCard(**asdict(open_artifact(run, "onnx-int8").card))
    many = card.quantization["calibration"] | {"pictures": 10**9}
    for other in ({"fp32_layers": []}, card.quantization | {"calibration": many}, card.quantization | {"method": "x"}):
        place.write_bytes(replace(card, quantization=other).to_json())
        with pytest.raises(RunError, match="does not say that it was quantized as here"):
            int8_of(run, "onnx-int8", "onnxruntime")
    place.write_bytes(replace(card, precision="fp32").to_json())
    with pytest.raises(UsageError, match=r"sub-networks are made in int8, and .*onnx-int8 is fp32"):
        int8_of(run, "onnx-int8", "onnxruntime")
