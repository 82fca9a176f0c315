"""From a Run to int8 artefacts: what is exported, what its card says, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exporting.int8.small import multilabel_run, small_run, timing

from resight.commands.quantize import quantize_run
from resight.errors import DataError, ParityError, QuantizationError, RunLocked, UsageError
from resight.evaluation import fit_temperature, multilabel, softmax
from resight.exporting.about import said_by_ir, said_by_onnx
from resight.exporting.int8 import quantize
from resight.inference import Predictor
from resight.inference.unknown import NEIGHBOURS, describe
from resight.runs import artifact_names, drafted, open_artifact
from resight.samples import SampleSet

TIMED: dict[str, Any] = {"threads": 1, "timing": timing()}


def test_the_card_is_of_the_int8_graph(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path)
    said: list[str] = []
    result = quantize(run, samples, to=["onnx"], say=said.append, **TIMED)
    (artifact,) = result.artifacts
    artifact.verify()
    card = artifact.card
    assert (card.name, card.target, card.backend, card.precision) == ("onnx-int8", "onnx", "onnxruntime", "int8")
    predictor = Predictor(run, artifact="onnx-int8", threads=1)
    val = [i for i, sample in enumerate(samples.samples) if sample.split == "val"]
    pixels = np.stack([predictor.square(samples.read(samples.samples[i])) for i in val])
    truth = samples.targets([samples.samples[i] for i in val])
    outputs = predictor.run_pixels(pixels)
    assert card.temperature == pytest.approx(fit_temperature(outputs.logits, truth))
    assert card.temperature != run.card.temperature
    np.testing.assert_allclose(outputs.probabilities, softmax(outputs.logits / card.temperature), atol=1e-6)
    scores = predictor.reference.scorer(NEIGHBOURS)(outputs.embedding)
    own = describe(scores, len(predictor.reference.bank))
    assert card.unknown["threshold"] == pytest.approx(own["threshold"], rel=1e-5)
    assert card.unknown["alarms"] == own["alarms"]
    assert card.unknown["threshold"] != run.card.unknown["threshold"]
    for part in ("val", "test"):
        found, labels = predictor.answers_of(samples, part)
        accuracy = (found.probabilities.argmax(axis=1) == labels).mean()
        assert card.metrics[part]["metrics"]["accuracy"]["value"] == accuracy
        assert card.metrics[part]["n"] == len(labels)
    fp32 = Predictor(run, threads=1).run_pixels(pixels).probabilities
    assert card.parity["max_abs"] == pytest.approx(np.abs(fp32 - outputs.probabilities).max(), abs=1e-6)
    assert card.quantization["calibration"]["pictures"] == 90
    assert card.quantization["fp32_layers"] == []
    assert [row["name"] for row in card.quantization["candidates"]][-1] == "onnx-int8"
    assert result.to_text() in said


def test_openvino_gets_an_ir_that_answers_as_its_card_says(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path, fragile=True)
    (artifact,) = quantize(run, samples, to=["openvino"], **TIMED).artifacts
    card = artifact.card
    assert (card.name, card.target, card.backend, card.graph) == ("openvino-int8", "openvino", "openvino", "model.xml")
    assert set(card.files) == {"model.xml", "model.bin"}
    # NNCF quantizes what goes into a layer: only the one that reads the large channel must stay in fp32
    weighted = [name for name in card.quantization["fp32_layers"] if not name.endswith(".add")]
    assert weighted == ["layer1.0.conv2"]
    first = card.quantization["candidates"][2]
    assert 100 * first["loss"]["drop"]["value"] > 5
    predictor = Predictor(run, threads=1)
    val = samples.part("val")
    pixels = np.stack([predictor.square(samples.read(sample)) for sample in val])
    answering = Predictor(run, artifact="openvino-int8", threads=1)
    logits, probabilities = answering.ask(pixels, ("logits", "probabilities"))
    right = logits.argmax(axis=1) == samples.targets(val)
    assert card.metrics["val"]["metrics"]["accuracy"]["value"] == right.mean() >= 0.995
    assert card.temperature == pytest.approx(fit_temperature(logits, samples.targets(val)))
    np.testing.assert_allclose(probabilities, softmax(logits / card.temperature), atol=1e-6)


@pytest.mark.parametrize(("target", "read"), [("onnx", said_by_onnx), ("openvino", said_by_ir)])
def test_the_file_says_what_it_is(target: str, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, samples = small_run(tmp_path)
    (artifact,) = quantize(run, samples, to=[target], max_drop=100, **TIMED).artifacts
    said = {name: json.loads(value) for name, value in read(artifact.graph).items()}
    assert tuple(said["resight.classes"]) == run.classes
    assert said["resight.geometry"] == run.card.geometry.to_dict()
    assert said["resight.temperature"] == artifact.card.temperature != run.card.temperature
    monkeypatch.setattr("resight.exporting.int8.finish.about", lambda _: {"resight.classes": "[]"})
    with pytest.raises(ParityError, match=r"says resight.classes = \[\]"):
        quantize(run, samples, to=[target], max_drop=100, **TIMED)
    assert open_artifact(run, artifact.card.name).sha256 == artifact.sha256


def test_a_refusal_keeps_what_was_there(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path, fragile=True)
    warned: list[str] = []
    quantize(run, samples, to=["onnx"], max_drop=100, say=warned.append, **TIMED)
    assert any("the best class is another one for" in line for line in warned)
    before = {path.name: path.read_bytes() for path in open_artifact(run, "onnx-int8").path.iterdir()}
    said: list[str] = []
    with pytest.raises(QuantizationError, match="not faster than fp32") as refused:
        quantize(run, samples, to=["onnx"], say=said.append, threads=1, timing=timing(100, 100))
    assert refused.value.exit_code == 1
    assert any("everything in int8: loses too much" in line for line in said)  # the table is shown
    after = {path.name: path.read_bytes() for path in open_artifact(run, "onnx-int8").path.iterdir()}
    assert after == before
    assert artifact_names(run) == ["onnx-int8"]
    assert not list((run.path / "artifacts").glob(".draft*"))


def test_a_name_that_another_export_holds_is_refused_before_the_search(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path, fragile=True)
    said: list[str] = []
    with drafted(run, "onnx-int8"), pytest.raises(RunLocked, match="exporting onnx-int8"):
        quantize(run, samples, to=["onnx"], max_drop=100, say=said.append, **TIMED)
    assert not said


def test_nothing_is_exported_where_all_is_fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a budget of 0, and pictures that every quantized layer gets wrong."""
    run, samples = small_run(tmp_path, fragile=True)
    from resight.exporting.int8 import loss as losses

    monkeypatch.setattr(losses.Loss, "within", lambda self, _: self.max_abs == 0)
    with pytest.raises(QuantizationError, match="the 3 most sensitive layers in fp32: loses too much"):
        quantize(run, samples, to=["onnx"], max_drop=0, **TIMED)
    assert artifact_names(run) == []


def test_a_budget_of_nothing_is_met_by_the_right_layers(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path, fragile=True)
    (artifact,) = quantize(run, samples, to=["onnx"], max_drop=0, **TIMED).artifacts
    assert set(artifact.card.quantization["fp32_layers"]) == {"layer1.0.conv1", "layer1.0.conv2"}
    assert artifact.card.parity["lost"]["value"] <= 0
    assert artifact.card.quantization["sensitivities"][0][0] in ("layer1.0.conv1", "layer1.0.conv2")


@pytest.mark.parametrize("fragile", [False, True])
def test_any_number_of_labels(tmp_path: Path, fragile: bool) -> None:
    run, samples = multilabel_run(tmp_path, fragile=fragile)
    result = quantize(run, samples, to=["onnx"], max_drop=1, **TIMED)
    (artifact,) = result.artifacts
    card = artifact.card
    kept = {"layer1.0.conv1", "layer1.0.conv2"} if fragile else set()
    assert set(card.quantization["fp32_layers"]) == kept
    assert "mAP" in result.to_text()
    predictor = Predictor(run, artifact="onnx-int8", threads=1)
    val = samples.part("val")
    outputs = predictor.run_pixels(np.stack([predictor.square(samples.read(sample)) for sample in val]))
    truth = samples.targets(val)
    assert card.temperature == pytest.approx(multilabel.fit_temperature(outputs.logits, truth))
    chances = multilabel.sigmoid(outputs.logits / card.temperature)
    assert list(card.thresholds) == list(multilabel.fit_thresholds(chances, truth))
    np.testing.assert_allclose(outputs.probabilities, chances, atol=1e-6)


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    run, _ = small_run(tmp_path)
    with pytest.raises(UsageError, match="not for triton"):
        quantize_run(run, to="triton")
    with pytest.raises(UsageError, match="max_drop is -1"):
        quantize_run(run, max_drop=-1)
    with pytest.raises(UsageError, match="pictures is 0"):
        quantize_run(run, pictures=0)


def test_without_validation_there_is_nothing_to_decide_by(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path, parts={"train": 30, "test": 30})
    with pytest.raises(DataError, match="no validation pictures"):
        quantize(run, samples, **TIMED)


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    run, samples = small_run(tmp_path)
    bad = samples.root / samples.part("val")[3].source
    bad.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"val.*png"):
        quantize(run, samples, to=["onnx"], **TIMED)


def test_calibration_is_balanced_and_drawn_by_the_seed(tmp_path: Path) -> None:
    from resight.exporting.int8.pictures import calibration_pictures

    run, samples = small_run(tmp_path)
    one, same, other = (calibration_pictures(run, samples, 12, seed, 1) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert np.array_equal(one.pixels, same.pixels)
    training = _pixels(samples)
    labels = [label for square in one.pixels for label, known in training if np.array_equal(square, known)]
    assert np.bincount(labels).tolist() == [4, 4, 4]


def _pixels(samples: SampleSet) -> list[tuple[int, np.ndarray]]:
    return [(sample.label, samples.read(sample)) for sample in samples.part("train")]


def test_nothing_is_sent_stored_or_imported_besides(tmp_path: Path) -> None:
    """In a process of its own: no connection, nothing at home or among temporary files, no PyTorch."""
    run, _ = small_run(tmp_path / "work")
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import multiprocessing, socket, sys, urllib.request\n"
        "def refuse(*_, **__): print('sent'); raise OSError\n"
        "urllib.request.urlopen = multiprocessing.Process.start = socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from pathlib import Path\n"
        "from resight.runs import Run\n"
        "from resight.commands.own_data import load_own\n"
        "from resight.exporting.int8 import quantize\n"
        "from resight.exporting.int8.speed import Rates, measure_rates\n"
        "def timing(sides, shape):\n"
        "    measure_rates(sides, shape, rounds=1, seconds=0.01)\n"
        "    return {name: Rates(*[1 + ('int8' in name)] * 2) for name in sides}\n"
        "run = Run.open(Path(sys.argv[1]))\n"
        "done = quantize(run, load_own(run), max_drop=100, threads=1, timing=timing)\n"
        "print(len(done.artifacts), 'torch' in sys.modules, sys.modules['openvino_telemetry'])\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    found = subprocess.run(
        [sys.executable, "-c", program, str(run.path)],
        env=kept | {"HOME": str(home), "TMPDIR": str(home)},
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "2 False None\n", found.stdout + found.stderr
    assert list(home.rglob("*")) == []
