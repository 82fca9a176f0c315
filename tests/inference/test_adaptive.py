"""Several graphs behind one backend: each picture takes the route that the plan says, alone and in any batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save
from tests.adapting.small import LEANING, pictures
from tests.inference.tiny import graph

from resight.errors import RunError, UsageError
from resight.inference import UNLIKE, Reference, open_backend
from resight.inference.heads import Head, resampled
from resight.inference.plan import Compared, Plan, Route, read_plan

OUTPUTS = ("route", "probabilities", "logits")
REFERENCE = {"sha256": "0" * 64, "k": 5, "unit": 1.0}


def put(folder: Path, name: str, data: bytes, temperature: float = 1.0) -> Route:
    (folder / f"{name}.onnx").write_bytes(data)
    return Route(name, "onnxruntime", f"{name}.onnx", hashlib.sha256(data).hexdigest(), temperature=temperature)


def plan_of(folder: Path) -> Plan:
    whole, leaning = graph().SerializeToString(), graph(head=LEANING).SerializeToString()
    return Plan((put(folder, "small", leaning, 1.5), put(folder, "whole", whole, 0.5)), (0.8,), temperature=2.0)


def gated(folder: Path) -> Plan:
    """Blue pictures to the first graph, all others to the second: the policy's classes are the routes."""
    head = np.array([[9, 0, 0, 0], [0, 9, 9, 0]], np.float32)
    gate = put(folder, "gate", graph(2, head=head).SerializeToString())
    return replace(plan_of(folder), thresholds=(), gate=gate)


def opened(folder: Path, plan: Plan, backend: str = "adaptive") -> Any:
    data = plan.to_json()
    (folder / "adaptive.json").write_bytes(data)
    return open_backend(backend, folder / "adaptive.json", 1, sha256=hashlib.sha256(data).hexdigest())


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64))
    return exponents / exponents.sum()


def alone(folder: Path, plan: Plan, pixels: NDArray[np.uint8]) -> tuple[int, NDArray[np.float64]]:
    """The slow reference: for one picture, which route and which logits."""

    def logits(route: Route) -> NDArray[np.float64]:
        found = open_backend("onnxruntime", folder / route.graph, 1).answer(pixels[None], ("logits",))[0][0]
        return found / route.temperature

    if plan.gate is not None:
        number = int(logits(plan.gate).argmax())
        return number, logits(plan.routes[number])
    first = logits(plan.routes[0])
    if softmax(first).max() >= plan.thresholds[0]:
        return 0, first
    return 1, logits(plan.routes[1])


@pytest.mark.parametrize("make", [plan_of, gated])
def test_each_picture_takes_its_route_in_any_batch(make: Callable[[Path], Plan], tmp_path: Path) -> None:
    plan, pixels = make(tmp_path), pictures(40)
    backend = opened(tmp_path, plan)
    route, probabilities, logits = backend.answer(pixels, OUTPUTS)
    assert set(route) == {0.0, 1.0}
    for k, square in enumerate(pixels):
        number, own = alone(tmp_path, plan, square)
        assert route[k] == number
        np.testing.assert_allclose(logits[k], own, atol=1e-6)
        np.testing.assert_allclose(probabilities[k], softmax(logits[k] / plan.temperature), atol=1e-6)
        for together, single in zip((route, probabilities, logits), backend.answer(square[None], OUTPUTS), strict=True):
            np.testing.assert_allclose(together[k], single[0], atol=1e-6)


def test_embeddings_are_the_whole_networks_for_every_picture(tmp_path: Path) -> None:
    plan, pixels = plan_of(tmp_path), pictures(12)
    embedding, route = opened(tmp_path, plan).answer(pixels, ("embedding", "route"))
    whole = open_backend("onnxruntime", tmp_path / "whole.onnx", 1)
    np.testing.assert_array_equal(embedding, whole.answer(pixels, ("embedding",))[0])
    assert set(route) == {0.0, 1.0}
    with pytest.raises(RunError, match="no class activation maps of the route small"):
        opened(tmp_path, plan).answer(pixels, ("features",))
    with pytest.raises(UsageError, match="unknown outputs: nothing"):
        opened(tmp_path, plan).answer(pixels, ("nothing",))


def telling(folder: Path, plan: Plan, k: int = 3) -> Plan:
    """The plan with a reference of 20 pictures for each route, not the same ones, and a unit."""
    made = []
    for number, route in enumerate(plan.routes):
        (seen,) = open_backend("onnxruntime", folder / route.graph, 1).answer(pictures(20, 50 + number), ("embedding",))
        labels, names = np.arange(20) % 3, [str(one) for one in range(20)]
        data = Reference.fit(seen, labels, np.arange(20), names).to_bytes()
        (folder / route.reference_file).write_bytes(data)
        made.append(replace(route, reference=Compared(hashlib.sha256(data).hexdigest(), k, 1.5 + number)))
    return replace(plan, routes=tuple(made))


@pytest.mark.parametrize("make", [plan_of, gated])
def test_how_unlike_a_picture_is_says_its_own_route(make: Callable[[Path], Plan], tmp_path: Path) -> None:
    """Against every distance, sorted; alone and in a batch."""
    plan = telling(tmp_path, make(tmp_path))
    pixels, backend = pictures(40), opened(tmp_path, plan)
    unlike, route, logits = backend.answer(pixels, (UNLIKE, "route", "logits"))
    assert unlike.dtype == np.float32
    assert set(route) == {0.0, 1.0}
    np.testing.assert_array_equal(logits, backend.answer(pixels, ("logits",))[0])
    for k, square in enumerate(pixels):
        own = plan.routes[int(route[k])]
        assert own.reference is not None
        (seen,) = open_backend("onnxruntime", tmp_path / own.graph, 1).answer(square[None], ("embedding",))
        known = Reference.from_bytes((tmp_path / own.reference_file).read_bytes())
        white = (seen / np.linalg.norm(seen) - known.centre) @ known.whitening
        expected = np.sort(np.linalg.norm(known.whitened.astype(np.float64) - white, axis=1))[own.reference.k - 1]
        assert unlike[k] == pytest.approx(expected / own.reference.unit, rel=1e-4)
        assert backend.answer(square[None], (UNLIKE,))[0][0] == pytest.approx(unlike[k], rel=1e-5)


def test_a_route_is_run_once_for_its_answer_and_how_unlike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(tmp_path, telling(tmp_path, plan_of(tmp_path)))
    asked: list[tuple[int, tuple[str, ...]]] = []

    class Heard:
        def __init__(self, number: int, own: Any) -> None:
            self.number, self.own = number, own

        def answer(self, pixels: Any, outputs: Any) -> Any:
            asked.append((self.number, tuple(outputs)))
            return self.own.answer(pixels, outputs)

    monkeypatch.setattr(backend, "_routes", [Heard(k, own) for k, own in enumerate(backend._routes)])
    backend.answer(pictures(40), (UNLIKE, "probabilities"))
    assert asked == [(0, ("logits", "embedding")), (1, ("logits", "embedding"))]
    asked.clear()
    backend.answer(pictures(40), ("probabilities",))
    assert asked == [(0, ("logits",)), (1, ("logits",))]


def test_plans_of_before_tell_nothing_unknown(tmp_path: Path) -> None:
    plan, pixels = plan_of(tmp_path), pictures(12)
    plain = json.loads(plan.to_json())
    for route in plain["routes"]:
        del route["reference"]
    data = json.dumps(plain).encode()
    (tmp_path / "adaptive.json").write_bytes(data)
    assert read_plan(tmp_path / "adaptive.json", None) == plan
    backend = open_backend("adaptive", tmp_path / "adaptive.json", 1, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(UsageError, match="unknown outputs: unlike"):
        backend.answer(pixels, (UNLIKE,))
    (logits,) = backend.answer(pixels, ("logits",))
    np.testing.assert_array_equal(logits, opened(tmp_path, telling(tmp_path, plan)).answer(pixels, ("logits",))[0])


def test_a_reference_that_is_not_the_routes_is_refused(tmp_path: Path) -> None:
    plan = telling(tmp_path, plan_of(tmp_path))
    path = tmp_path / plan.routes[0].reference_file
    known = Reference.from_bytes(path.read_bytes())

    def put_in(data: bytes, k: int = 3) -> Plan:
        path.write_bytes(data)
        first = replace(plan.routes[0], reference=Compared(hashlib.sha256(data).hexdigest(), k, 1.0))
        return replace(plan, routes=(first, plan.routes[1]))

    with pytest.raises(RunError, match="neighbour 21 of 20"):
        opened(tmp_path, put_in(known.to_bytes(), k=21))
    wide = Reference.fit(np.eye(20, 6, dtype=np.float32), known.labels, known.indices, known.sources)
    with pytest.raises(RunError, match=r"embeddings of 6 numbers, small\.onnx answers with 4"):
        opened(tmp_path, put_in(wide.to_bytes())).answer(pictures(40), (UNLIKE,))
    with pytest.raises(RunError, match=r"small-reference\.safetensors is damaged") as error:
        opened(tmp_path, put_in(b"nothing"))
    assert error.value.hint == "make it again: resight adapt RUN DATA"
    with pytest.raises(RunError, match=r"small-reference\.safetensors was changed"):
        opened(tmp_path, plan)
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        opened(tmp_path, plan)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plain: plain.update(schema=2), "not of schema 1"),
        (lambda plain: plain.update(more=1), "unknown fields: more"),
        (lambda plain: plain.update(thresholds=[]), "a threshold for each route but the last"),
        (lambda plain: plain.update(thresholds=[1.5]), "not in 0"),
        (lambda plain: plain.update(temperature=0), "its temperature is 0"),
        (lambda plain: plain["routes"].pop(), "expected 2 to 8 routes"),
        (lambda plain: plain["routes"][0].update(graph="../whole.onnx"), "lies elsewhere"),
        (lambda plain: plain["routes"][0].update(graph=".."), "nothing here answers with the route small"),
        (lambda plain: plain["routes"][0].update(graph="small.xml", weights="0" * 64), "nothing here answers"),
        (lambda plain: plain["routes"][0].update(name="../small"), "a route cannot be called"),
        (lambda plain: plain["routes"][0].update(head="../x"), "impossible SHA-256"),
        (lambda plain: plain["routes"][0].update(reference=REFERENCE), "others do not"),
        (lambda plain: plain["routes"][0].update(reference=REFERENCE | {"sha256": "../x"}), "impossible SHA-256"),
        (lambda plain: plain["routes"][0].update(reference=REFERENCE | {"k": 0}), "compares with neighbour 0"),
        (lambda plain: plain["routes"][0].update(reference=REFERENCE | {"unit": 0}), "in units of 0"),
        (lambda plain: plain["routes"][0].update(reference=REFERENCE | {"more": 0}), "more"),
        (lambda plain: plain["routes"][0].update(reference="x"), "no plan of routes"),
        (
            lambda plain: plain.update(thresholds=[], gate=plain["routes"][0] | {"head": "0" * 64}),
            "gate does not answer",
        ),
        (lambda plain: plain["routes"][0].update(backend="adaptive"), "nothing here answers with the route small"),
        (lambda plain: plain["routes"][0].update(temperature=float("inf")), "Infinity|temperature"),
        (lambda plain: plain["routes"][0].update(name="whole"), "of different names"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: Callable[[dict[str, Any]], Any], words: str, tmp_path: Path) -> None:
    plain = json.loads(plan_of(tmp_path).to_json())
    change(plain)
    (tmp_path / "adaptive.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match=words):
        read_plan(tmp_path / "adaptive.json", None)


def test_graphs_that_were_exchanged_are_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (tmp_path / "small.onnx").write_bytes(graph().SerializeToString())
    with pytest.raises(RunError, match=r"small\.onnx was changed"):
        opened(tmp_path, plan)
    plan = plan_of(tmp_path)
    (tmp_path / "adaptive.json").write_bytes(plan.to_json() + b" ")
    with pytest.raises(RunError, match=r"adaptive\.json was changed"):
        read_plan(tmp_path / "adaptive.json", hashlib.sha256(plan.to_json()).hexdigest())


def test_routes_of_other_classes_are_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    other = replace(plan, routes=(plan.routes[0], put(tmp_path, "whole", graph(4).SerializeToString())))
    with pytest.raises(RunError, match="different numbers of classes"):
        opened(tmp_path, other).answer(pictures(40), ("logits",))
    wide = replace(gated(tmp_path), gate=put(tmp_path, "gate", graph(3).SerializeToString()))
    with pytest.raises(RunError, match="chooses among 3 routes, it has 2"):
        opened(tmp_path, wide).answer(pictures(2), ("logits",))


@pytest.mark.parametrize("size", [(4, 6), (7, 7), (1, 2), (2, 3)])
def test_maps_of_another_size_keep_their_means(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(5, 3, 2, 3)).astype(np.float32)
    found = resampled(maps, *size)
    assert found.shape == (5, 3, *size)
    np.testing.assert_allclose(found.mean((2, 3)), maps.mean((2, 3)), atol=1e-6)
    if size == (4, 6):
        np.testing.assert_allclose(found, maps.repeat(2, axis=2).repeat(2, axis=3), atol=1e-6)


def test_a_last_layer_comes_back_from_its_file() -> None:
    head = Head(np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32))
    again = Head.from_bytes(head.to_bytes())
    np.testing.assert_array_equal(again.weights, head.weights)
    assert Head.of({}, 2) is None
    for wrong in (b"", b"nothing", save({"fc.weight": head.weights})):
        with pytest.raises(ValueError, match="no last layer"):
            Head.from_bytes(wrong)
