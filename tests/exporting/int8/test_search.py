"""The order of layers and the fallback, against brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tests.exporting.int8.small import answer, small_run

from resight.exporting.int8.graph import prepared
from resight.exporting.int8.loss import answers, loss_of, spreads_apart
from resight.exporting.int8.pictures import calibration_pictures, positions, squares
from resight.exporting.int8.search import TRIED, fewest, search, sensitivities
from resight.exporting.int8.targets import TARGETS, Workshop
from resight.inference import open_backend
from resight.runs import ONNX, Run
from resight.samples import SampleSet


def workshop(run: Run, samples: SampleSet, folder: Path, to: str) -> Workshop:
    model = prepared(run.file(ONNX).read_bytes(), run.card.temperature)
    calibration = calibration_pictures(run, samples, 90, 0, 1)
    return Workshop(TARGETS[to], model, calibration.pixels, folder, 1, seven_bits=False)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 20])
def test_fewest_is_the_first_that_fits(most: int) -> None:
    for smallest in range(1, most + 2):
        asked: list[int] = []

        def fits(count: int, least: int = smallest, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count >= least

        assert fewest(fits, most) == (smallest if smallest <= most else None)
        assert all(1 <= count <= most for count in asked)
        assert len(asked) == len(set(asked)) <= 2 * max(most, 1).bit_length() + 1


def test_sensitivities_are_those_of_each_layer_alone(tmp_path: Path) -> None:
    """Rounded by hand: the weights of a layer to 8 bits per channel, its input and output to 8 bits."""
    run, samples = small_run(tmp_path, fragile=True)
    shop = workshop(run, samples, tmp_path, "onnx")
    layers = shop.target.layers(shop.model)
    fp32 = open_backend("onnxruntime", run.file(ONNX), 1)
    found = sensitivities(shop, layers, layers, fp32)
    (reference,) = answers(fp32, shop.pixels[:TRIED], ("logits",))
    for layer, value in zip(layers, found, strict=True):
        others = [node for other in layers if other is not layer for node in other.nodes]
        (alone,) = answer(shop.quantize(others), tmp_path, shop.pixels[:TRIED], "logits")
        spread = np.sqrt(reference.var(axis=0).mean())
        assert value == pytest.approx(np.abs(alone - reference).mean() / spread, rel=1e-3)
    order = [layers[k].name for k in np.argsort(found)[::-1]]
    assert set(order[:2]) == {"layer1.0.conv1", "layer1.0.conv2"}


def test_the_fallback_keeps_the_fewest_layers_that_there_are(tmp_path: Path) -> None:
    """ONNX Runtime quantizes what comes out of a layer and what goes in: both ends of the large channel stay fp32."""
    run, samples = small_run(tmp_path, fragile=True)
    shop = workshop(run, samples, tmp_path, "onnx")
    layers = shop.target.layers(shop.model)
    val = positions(samples, "val")
    pixels, truth = np.stack(list(squares(run, samples, val, 1))), samples.targets([samples.samples[i] for i in val])
    fp32 = open_backend("onnxruntime", run.file(ONNX), 1)
    (reference,) = answers(fp32, pixels, ("logits",))

    def loss(logits: np.ndarray) -> object:
        return loss_of(run, reference, logits, truth)

    found = search(shop, pixels, loss, fp32, 0.5, lambda _: None)  # type: ignore[arg-type]
    assert not found.candidates[0].fits(0.5)
    assert found.candidates[-1].fits(0.5)
    assert set(found.candidates[-1].kept) == {"layer1.0.conv1", "layer1.0.conv2"}
    fitting = []
    for count in (0, 1, 2):
        for kept in combinations(layers, count):
            model = shop.quantize([node for layer in kept for node in layer.nodes])
            (logits,) = answer(model, tmp_path, pixels, "logits")
            if 100 * ((reference.argmax(1) == truth).mean() - (logits.argmax(1) == truth).mean()) <= 0.5:
                fitting.append({layer.name for layer in kept})
    assert fitting == [{"layer1.0.conv1", "layer1.0.conv2"}]


def test_spreads_apart_is_in_units_of_the_pictures_differences() -> None:
    one = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)  # each class varies by 1 about its mean
    assert spreads_apart(one, one) == 0
    assert spreads_apart(one, one + 0.5) == pytest.approx(0.5)
    assert spreads_apart(10 * one, 10 * one + 5) == pytest.approx(0.5)
