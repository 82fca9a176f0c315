"""Every target on a small Run: it answers the same through its own path, and the gate catches one that does not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.inference import tiny

from resight import import_weights
from resight.commands.export import NEEDS, export, exported, table
from resight.errors import DataError, ParityError, RunError, UsageError
from resight.exporting.about import about
from resight.exporting.targets import TARGETS
from resight.images import Geometry
from resight.inference import Predictor
from resight.models import create
from resight.runs import ONNX, Run, RunCard, drafted, open_artifact
from resight.samples import load


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("data") / "colours", each=12)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real network of the CIFAR family, untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("imported")
    torch.save(create("resnet20", num_classes=3).state_dict(), folder / "weights.pth")
    weights = folder / "weights.pth"
    return import_weights(weights, model="resnet20", classes=tiny.CLASSES, out=folder / "run", say=lambda _: None)


@pytest.fixture
def run(tmp_path: Path, pictures: Path) -> Run:
    return tiny.make_run(tmp_path / "my run", data=load(pictures))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_passes_its_gate(target: str, imported: Run, pictures: Path) -> None:
    found = export(imported, target, data=pictures)
    card = open_artifact(imported, target).card
    assert (card.target, card.precision, card.backend) == (target, "fp32", TARGETS[target].backend)
    assert card.classes == tiny.CLASSES
    assert card.geometry == imported.card.geometry.to_dict()
    assert card.parity["pictures"] == 36
    assert card.parity["top1_agreement"] == 1
    assert card.parity["max_abs"] <= 1e-4
    assert card.parity["accuracy"]["run"] == card.parity["accuracy"]["artefact"]
    assert "resight" in card.environment
    assert target in found.to_text() or "|Δp|" in found.to_text()
    found.artifact.verify()


def test_the_names_of_targets_are_those_of_the_table() -> None:
    assert list(TARGETS) == list(NEEDS)


def test_the_onnx_file_says_what_it_is(run: Run) -> None:
    export(run, "onnx")
    model = onnx.load(open_artifact(run, "onnx").graph, load_external_data=False)
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert tuple(said["resight.classes"]) == tiny.CLASSES
    assert said["resight.geometry"] == run.card.geometry.to_dict()
    assert said["resight.temperature"] == tiny.TEMPERATURE
    assert open_artifact(run, "onnx").graph.parent.name == "onnx"


def test_openvino_answers_through_its_own_files(run: Run) -> None:
    pytest.importorskip("openvino")
    export(run, "openvino")
    artifact = open_artifact(run, "openvino")
    assert set(artifact.card.files) == {"model.xml", "model.bin"}
    pixels = np.stack([tiny.picture(colour, side=tiny.SIZE) for colour in tiny.CLASSES])
    ours, theirs = (Predictor(run, artifact=name).run_pixels(pixels) for name in (None, "openvino"))
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-6)
    numbers = artifact.path / "model.bin"
    numbers.write_bytes(bytes(numbers.stat().st_size))  # the right length, and all zeros
    with pytest.raises(RunError, match="changed"):
        Predictor(run, artifact="openvino")


def test_another_format_in_an_xml_is_refused(run: Run) -> None:
    pytest.importorskip("openvino")
    from resight.inference import open_backend

    path = run.path.parent / "model.xml"
    path.write_bytes(run.read(ONNX))
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(RunError, match="damaged"):
        open_backend("openvino", path)
    path.write_bytes(b"<?xml version='1.0'?><net name='x' version='11'><layers/></net>")
    with pytest.raises(RunError):
        open_backend("openvino", path)


def test_triton_has_the_form_of_a_repository(run: Run) -> None:
    export(run, "triton")
    model = open_artifact(run, "triton").path / "my_run"
    text = (model / "config.pbtxt").read_text()
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.name == "my_run"
    assert config.max_batch_size == 64
    assert [list(node.dims) for node in config.input] == [[tiny.SIZE, tiny.SIZE, 3]]
    assert {node.name: list(node.dims) for node in config.output} == {
        "probabilities": [3], "logits": [3], "embedding": [4]
    }  # fmt: skip
    assert 0 < max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    assert {node.name for node in config.output if node.label_filename == "labels.txt"} == {"probabilities", "logits"}
    _same_tensors(config, onnx.load(model / "1" / ONNX))
    assert (model / "labels.txt").read_text().splitlines() == list(tiny.CLASSES)
    assert (model / "1" / ONNX).is_file()
    assert json.loads((model / "resight.json").read_text())["resight.geometry"] == run.card.geometry.to_dict()


def _same_tensors(config: Any, model: onnx.ModelProto) -> None:
    """What Triton compares when it loads a graph: names, types, and shapes after the batch, which must be open."""
    kinds = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
    for said, there in ((config.input, model.graph.input), (config.output, model.graph.output)):
        nodes = {node.name: node.type.tensor_type for node in there}
        for one in said:
            batch, *sizes = nodes[one.name].shape.dim
            assert batch.dim_param
            assert [size.dim_value for size in sizes] == list(one.dims)
            number = type(one).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[one.data_type]
            assert number.name == kinds[nodes[one.name].elem_type]
    assert {node.name for node in model.graph.input} == {node.name for node in config.input}


# ── what the gate catches ──────────────────────────────────────────────────────────────────────────────────────


def _channels_swapped(model: onnx.ModelProto) -> None:
    colours = next(t for t in model.graph.initializer if t.name == "colours")
    colours.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(colours)[:, ::-1].copy(), "colours"))


def _not_normalised(model: onnx.ModelProto) -> None:
    scale = next(t for t in model.graph.initializer if t.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.float32(1), "scale"))


def _one_weight(model: onnx.ModelProto) -> None:
    head = next(t for t in model.graph.initializer if t.name == "head")
    values = numpy_helper.to_array(head).copy()
    values[0, 0] += 0.01
    head.CopyFrom(numpy_helper.from_array(values, "head"))


@pytest.mark.parametrize("breaks", [_channels_swapped, _not_normalised, _one_weight])
def test_a_broken_export_is_caught_and_the_previous_one_stays(
    run: Run, breaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, "onnx")
    before = open_artifact(run, "onnx").sha256
    load_ = onnx.load_from_string

    def broken(data: bytes) -> onnx.ModelProto:
        model = load_(data)
        breaks(model)
        return model

    monkeypatch.setattr("onnx.load_from_string", broken)
    with pytest.raises(ParityError, match="otherwise than the Run") as raised:
        export(run, "onnx")
    assert raised.value.exit_code == 1
    assert open_artifact(run, "onnx").sha256 == before
    assert [one.problem for one in exported(run)] == [None]
    assert [path.name for path in (run.path / "artifacts").glob("[!.]*")] == ["onnx"]


@pytest.mark.parametrize("target", ["onnx", "openvino", "program", "docker"])
@pytest.mark.parametrize("fact", ["geometry", "classes", None])
def test_a_file_that_says_of_itself_what_is_not_so_is_caught(
    target: str, fact: str | None, imported: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are right; whoever took it away would make other squares, or read other names."""
    wrong = {
        "geometry": {"geometry": Geometry("squash", imported.card.geometry.size)},
        "classes": {"classes": tiny.CLASSES[::-1]},
    }

    def other(card: RunCard) -> dict[str, str]:
        return {} if fact is None else about(replace(card, **wrong[fact]))

    monkeypatch.setattr(f"resight.exporting.targets.{target}.about", other)
    with pytest.raises(ParityError, match=f"says resight.{fact or 'classes'} = ") as raised:
        export(imported, target, name="told", data=pictures, pictures=3)
    assert raised.value.exit_code == 1
    assert "told" not in [one.name for one in exported(imported)]


def test_the_pictures_of_the_gate(run: Run, imported: Run, pictures: Path, tmp_path: Path) -> None:
    assert export(run, "onnx").gate.parity.n == sum(s.split == "val" for s in load(pictures).samples)
    assert export(run, "onnx", data=pictures, pictures=7).gate.parity.n == 7
    found = export(imported, "onnx", images=pictures)
    assert (found.gate.parity.n, found.gate.difference) == (36, None)
    with pytest.raises(UsageError, match="--images"):
        export(imported, "onnx")
    with pytest.raises(UsageError, match="contradict"):
        export(run, "onnx", data=pictures, images=pictures)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"a\.png"):
        export(run, "onnx", images=tmp_path / "bad")


def test_wrong_wishes(run: Run) -> None:
    with pytest.raises(UsageError, match="no target"):
        export(run, "tensorrt")
    with pytest.raises(UsageError, match="cannot be named"):
        export(run, "onnx", name="../x")
    with pytest.raises(UsageError, match="1 or more"):
        export(run, "onnx", pictures=0)


def test_a_damaged_artefact_is_listed_as_such(run: Run) -> None:
    assert "no artefacts" in table(exported(run))
    export(run, "onnx")
    export(run, "onnx", name="other")
    open_artifact(run, "other").graph.write_bytes(b"")
    found = exported(run)
    assert [(one.name, one.problem is None) for one in found] == [("onnx", True), ("other", False)]
    assert "changed" in table(found)


def test_exporting_needs_no_pytorch(run: Run) -> None:
    code = (
        "import sys; from pathlib import Path; from resight import export;"
        "[export(Path(sys.argv[1]), to) for to in ('onnx', 'openvino', 'triton', 'docker')];"
        "assert not {'torch', 'pydantic', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)


def test_a_draft_is_gone_after_a_failure(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), drafted(run, "x") as folder:
        raise ZeroDivisionError
    assert not folder.exists()
