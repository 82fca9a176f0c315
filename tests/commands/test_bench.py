from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.inference import tiny
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.commands.export import export
from resight.errors import RunError, UsageError
from resight.inference import Speed, installed_backends, measure
from resight.inference.measure import Answered, apart, sides_of, varied
from resight.runs import Artifact, Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    return tiny.make_run(tmp_path / "run")


def test_every_backend_is_measured_and_stored_for_auto(run: Run, tmp_path: Path) -> None:
    found = resight.bench(run, threads=2, batch=2, seconds=0.02, rounds=1)
    assert list(found.speeds) == installed_backends() == ["onnxruntime", "openvino"]
    assert all(value > 0 for speed in found.speeds.values() for value in (speed.start, speed.one, speed.many))
    assert found.decode > 0
    assert found.stored.is_relative_to(tmp_path / "cache" / "bench")
    assert resight.Predictor(run, threads=2, batch=2).choice.name == found.chosen["many"]
    assert resight.Predictor(run, threads=2, batch=2, pictures=1).choice.name == found.chosen["one picture"]
    text = found.to_text()
    assert "openvino" in text
    assert str(run.path) in text
    assert "--backend auto takes" in text


def test_the_command_writes_json_to_stdout_only(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {name: Speed(1.0, 2.0, 3.0) for name in installed_backends()}
    monkeypatch.setattr("resight.commands.bench.measure", lambda *_, **__: speeds)
    result = CliRunner().invoke(app, ["bench", str(run.path), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert [b["name"] for b in plain["backends"]] == list(speeds)
    assert plain["backends"][0] | {"version": ""} == {
        "name": "onnxruntime",
        "version": "",
        "start": 1.0,
        "one": 2.0,
        "many": 3.0,
    }
    assert set(plain["auto"]) == {"one picture", "many"}
    assert "measuring" in result.stderr
    answer = CliRunner().invoke(app, ["predict", str(run.path), str(tiny.write_picture(tmp_path / "a.png", "red"))])
    assert answer.stderr.startswith("backend: onnxruntime, ")
    assert "red" in answer.stdout


def test_artefacts_have_rows_that_auto_never_takes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed by their real files; then with speeds that would win, if they could."""
    pictures = tiny.write_folder(tmp_path / "pictures", each=2)
    for name, target in (("onnx", "onnx"), ("ir", "openvino"), ("repository", "triton")):
        export(run, target, name=name, images=pictures)
    card = run.path / "artifacts" / "ir" / "card.json"
    plain = json.loads(card.read_text("utf-8"))
    kept = {"quantization": {"fp32_layers": ["layer1.0.add", "odd\x1b[31m"]}}
    card.write_text(json.dumps(plain | {"precision": "int8"} | kept), "utf-8")
    found = resight.bench(run, threads=1, batch=2, seconds=0.01, rounds=1)
    assert list(found.artifacts) == ["ir", "onnx"]
    assert all(value > 0 for _, speed in found.artifacts.values() for value in (speed.start, speed.one, speed.many))
    assert list(found.speeds) == installed_backends()
    assert "artifact ir: int8 by openvino" in found.to_text()
    assert "stayed in fp32: layer1.0.add, odd\\x1b[31m" in found.to_text()
    assert "artifact repository: not measured, no backend here answers with it" in found.to_text()
    rows = {one["name"]: one for one in found.to_dict()["artifacts"]}
    assert rows["ir"]["fp32_layers"][0] == "layer1.0.add"
    assert rows["onnx"]["fp32_layers"] == []
    assert rows["onnx"]["bytes"] > 0

    def quick(opened: Run, names: list[str], _: int, *, artifacts: list[Artifact], **__: object) -> dict[str, Speed]:
        speeds = {name: Speed(1.0, 2.0 + k, 2.0 + k) for k, name in enumerate(names)}
        return speeds | {side.name: Speed(0.1, 99.0, 99.0) for side in sides_of(opened, [], artifacts)}

    monkeypatch.setattr("resight.commands.bench.measure", quick)
    assert resight.bench(run, threads=1, batch=2).chosen == {"one picture": "openvino", "many": "openvino"}
    stored = json.loads(found.stored.read_text("utf-8"))
    assert all(set(entry) == set(installed_backends()) for entry in stored["entries"].values())


def test_a_damaged_artefact_is_not_measured(run: Run, tmp_path: Path) -> None:
    artifact = export(run, "openvino", images=tiny.write_folder(tmp_path / "pictures", each=1)).artifact
    numbers = artifact.path / "model.bin"
    numbers.write_bytes(bytes(numbers.stat().st_size))
    with pytest.raises(RunError, match=r"model\.bin is missing or was changed"):
        resight.bench(run, threads=1, batch=1, seconds=0.01, rounds=1)


def test_wrong_arguments(run: Run) -> None:
    for name, value in (("batch", 0), ("rounds", 0), ("threads", 0), ("seconds", 0.0), ("seconds", float("inf"))):
        with pytest.raises(UsageError, match=name):
            resight.bench(run, **{name: value})  # type: ignore[arg-type]


def test_a_changed_graph_is_not_measured(run: Run) -> None:
    (run.path / "model.onnx").write_bytes(tiny.graph(temperature=1.0).SerializeToString())
    with pytest.raises(RunError, match="changed after the Run was sealed"):
        resight.bench(run, threads=1, seconds=0.01, rounds=1)


def test_a_graph_that_no_backend_can_open_says_why(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run", model=b"<html>")
    with pytest.raises(RunError, match=r"onnxruntime could not be measured.*damaged"):
        resight.bench(run, threads=1, seconds=0.01, rounds=1)


def answered(logits: list[list[float]], probabilities: list[list[float]] | None = None) -> Answered:
    floats = np.array(logits, np.float32)
    powers = np.exp(floats - floats.max(axis=1, keepdims=True))
    chances = powers / powers.sum(axis=1, keepdims=True)
    return Answered(floats, chances if probabilities is None else np.array(probabilities, np.float32))


def test_backends_that_differ_are_not_compared_by_speed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([answered([[0.0, 1.0], [1.0, 0.0]]), answered([[0.0, 1.0], [1.1, 0.0]])])
    monkeypatch.setattr(measure, "_in_a_process", lambda *_: (Speed(1.0, 1.0, 1.0), next(answers)))
    with pytest.raises(RunError, match="answer differently"):
        measure.measure(run, ["onnxruntime", "openvino"], 1, batch=1, seconds=1, rounds=1)


def test_a_collapsed_graph_does_not_pass_because_its_probabilities_are_saturated() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 1, (32, 5))
    logits[:, 0] += 100  # one class is always sure of itself: all probabilities are 0 or 1
    sound, collapsed = answered(logits.tolist()), answered((0 * logits + [100, 0, 0, 0, 0]).tolist())
    assert float(np.abs(sound.probabilities - collapsed.probabilities).max()) < 1e-6
    assert "logits by" in (apart(sound, collapsed) or "")
    assert apart(sound, answered((logits + random.normal(0, 1e-5, logits.shape)).tolist())) is None


def test_what_counts_as_a_difference() -> None:
    same = [[1.0, 1.0], [1.0, 1.0]]
    assert apart(answered(same), answered(same)) is None
    assert apart(answered(same), answered([[1.0, 1.0], [1.0, 1.001]])) is not None
    assert "nan" in (apart(answered(same), answered([[1.0, 1.0], [1.0, float("nan")]])) or "")
    assert "by 0.1 in probability" in (apart(answered(same), answered(same, [[0.6, 0.4], [0.5, 0.5]])) or "")
    assert "(2, 2) and (1, 2)" in (apart(answered(same), answered(same[:1])) or "")


def test_the_pictures_that_are_compared_are_not_all_alike() -> None:
    pictures = varied(32, (16, 16, 3))
    assert (pictures.shape, pictures.dtype) == ((32, 16, 16, 3), np.uint8)
    means = pictures.mean(axis=(1, 2, 3))
    deviations = pictures.std(axis=(1, 2, 3))
    assert means.max() - means.min() > 80
    assert deviations.max() > 5 * deviations.min()
    assert varied(7, (1, 1, 1)).shape == (7, 1, 1, 1)


def test_a_module_in_the_current_folder_is_not_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures come with strangers' folders; ``python -c`` would import from there first."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("json", "numpy", "resight", "onnxruntime"):
        (folder / f"{name}.py").write_text(
            "from pathlib import Path; Path('ran').touch(); raise SystemExit(3)", "utf-8"
        )
    monkeypatch.chdir(folder)
    resight.bench(run, threads=1, batch=1, seconds=0.01, rounds=1)
    assert not (folder / "ran").exists()


def test_a_measurement_decides_for_its_own_batch_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"onnxruntime": Speed(1.0, 2.0, 3.0), "openvino": Speed(1.0, 9.0, 9.0)}
    monkeypatch.setattr("resight.commands.bench.measure", lambda *_, **__: speeds)
    assert resight.bench(run, threads=2, batch=1, seconds=0.01).chosen["many"] == "openvino"
    assert resight.Predictor(run, threads=2, batch=1).choice.name == "openvino"
    assert resight.Predictor(run, threads=2).choice.name == "onnxruntime"
    assert resight.Predictor(run, threads=1, batch=1).choice.name == "onnxruntime"
