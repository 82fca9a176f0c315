"""Any number of labels, from a table to a sealed Run and its answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny
from tests.inference.test_multilabel import FIELDS
from tests.reporting.browser import DESKTOP, PHONE, opened
from tests.training.several import write_bands
from typer.testing import CliRunner

from resight.cli import app
from resight.commands.doctor import examine
from resight.commands.embed import embed, similar
from resight.commands.eval import evaluate_run
from resight.commands.eval_multilabel import MultilabelEvalResult
from resight.errors import DataError, UsageError
from resight.evaluation.multilabel import MultilabelEvaluation
from resight.inference import Predictor, read_reference
from resight.runs import CONFIG, HISTORY, ONNX, REPORT, SPLIT, WEIGHTS, Run
from resight.samples import cells, load

torch = pytest.importorskip("torch")

from resight.commands.import_ import import_weights  # noqa: E402
from resight.commands.resume import resume  # noqa: E402
from resight.commands.train import train  # noqa: E402

CSVS = ("predict.csv", "eval.csv")
SETTINGS = {"total_steps": 42, "threads": 1, "data.val_fraction": 0.25, "data.test_fraction": 0.2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("several")
    return train(write_bands(root / "data", 100), model="resnet20", out=root / "run", workers=0, batch=8, set=SETTINGS)


def data_of(run: Run) -> Path:
    return run.path.parent / "data" / "bands.csv"


def test_the_run_says_what_it_is(run: Run) -> None:
    card = Run.open(run.path).card
    assert (card.task, card.status, card.classes) == ("multi", "sealed", ("blue", "green", "red"))
    assert len(card.thresholds) == 3
    assert card.calibrated
    assert {HISTORY, REPORT, SPLIT, ONNX, WEIGHTS, CONFIG} <= set(card.files)
    assert json.loads(run.read(CONFIG))["task"] == "multi"
    assert '"labels"' in run.read(SPLIT).decode().splitlines()[0]
    assert run.metrics["map"] > card.metrics["test"]["base_rate"] + 0.1
    assert card.parity["max_abs"] < 1e-4
    assert resume(run.path).card == card


def test_thresholds_come_from_validation_alone(run: Run) -> None:
    from resight.evaluation.multilabel import fit_temperature, fit_thresholds, sigmoid

    stored = np.load(run.path / "predictions.npz")
    logits, targets = stored["val_logits"], stored["val_labels"]
    assert targets.shape == (len(logits), 3)
    for own, fitted in zip(run.card.thresholds, fit_thresholds(sigmoid(logits), targets), strict=True):
        assert (own.positives, own.fitted) == (fitted.positives, fitted.fitted)
        assert own.value == pytest.approx(fitted.value, abs=1e-4)
    assert fit_temperature(logits * run.card.temperature, targets) == pytest.approx(run.card.temperature, rel=1e-3)


def test_pytorch_onnx_predict_and_eval_answer_the_same(run: Run, tmp_path: Path) -> None:
    from resight.attribution import load_network
    from resight.commands.predict import predict

    samples = load(data_of(run), split_csv=run.path / SPLIT)
    files = [samples.path(sample) for sample in samples.part("test")]
    squares = np.stack([samples.read(sample) for sample in samples.part("test")])
    with torch.inference_mode():
        logits = load_network(run)(torch.from_numpy(squares).permute(0, 3, 1, 2).float())
    ours = torch.sigmoid(logits / run.card.temperature).numpy()
    found = evaluate_run(run, backend="onnxruntime", predictions=tmp_path / "eval.csv")
    assert isinstance(found, MultilabelEvalResult)
    assert found.probabilities == pytest.approx(ours, abs=1e-4)
    predict(run, files, backend="onnxruntime").to_csv(tmp_path / "predict.csv")
    rows, told = (list(csv.DictReader((tmp_path / name).read_text("utf-8").splitlines())) for name in CSVS)
    assert [Path(row["source"]).name for row in rows] == [row["source"] for row in told]
    for row, other, chances in zip(rows, told, found.probabilities, strict=True):
        assert set(cells.split(row["labels"])) == set(cells.split(other["predicted"]))
        assert [float(other[f"p {name}"]) for name in run.classes] == pytest.approx(chances.tolist(), abs=1e-6)
        assert {row[f"class_{k}"]: float(row[f"p_{k}"]) for k in (1, 2, 3)} == pytest.approx(
            dict(zip(run.classes, chances.tolist(), strict=True)), abs=1e-6
        )
    assert [row["true"] for row in told] == [samples.label_text(sample) for sample in samples.part("test")]
    stored = MultilabelEvaluation.from_dict(run.card.metrics["test"])
    assert stored.metrics["map"].value == pytest.approx(found.evaluation.metrics["map"].value, abs=1e-6)


def test_openvino_answers_the_same(run: Run) -> None:
    pytest.importorskip("openvino")
    squares = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    one, two = (Predictor(run, backend=name, threads=1).run_pixels(squares) for name in ("onnxruntime", "openvino"))
    assert two.probabilities == pytest.approx(one.probabilities, abs=1e-4)


def command(*arguments: Any) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.stderr
    return found.stdout


def test_the_command_line(run: Run, tmp_path: Path) -> None:
    picture = data_of(run).parent / "000.png"
    text = command("predict", run.path, picture, "--backend", "onnxruntime")
    assert "000.png  " in text
    assert "%" in text
    plain = json.loads(command("predict", run.path, picture, "--json", "--backend", "onnxruntime"))[0]
    assert {each["class"] for each in plain["labels"]} <= set(run.classes)
    assert len(plain["top"]) == 3
    shown = command("eval", run.path, "--backend", "onnxruntime")
    assert "mAP, mean of classes" in shown
    assert "threshold" in shown
    plain = json.loads(command("eval", run.path, "--json", "--backend", "onnxruntime"))
    assert plain["evaluation"]["task"] == "multi"


def test_classes_of_other_data_are_matched_by_name(run: Run, tmp_path: Path) -> None:
    table = data_of(run).parent / "some.csv"
    table.write_text("path,labels\n000.png,red\n001.png,green|red\n002.png,\n", "utf-8")
    found = evaluate_run(run, table, backend="onnxruntime")
    assert isinstance(found, MultilabelEvalResult)
    assert found.targets.tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert any("1 of the Run's 3 classes are not in the data: blue" in text for text in found.warnings)
    assert any("count as absent" in text for text in found.warnings)
    table.write_text("path,label\n000.png,red\n001.png,green\n", "utf-8")
    with pytest.raises(DataError, match=r"has pictures with one label each, .* answers for any number of labels"):
        evaluate_run(run, table)


def test_classes_without_a_column_are_left_out(run: Run, tmp_path: Path) -> None:
    """Nothing is known of them. The page is made of the other classes' own numbers."""
    whole = data_of(run).read_text("utf-8").splitlines()[1:]
    table = data_of(run).parent / "columns.csv"
    rows = [(line.partition(",")[0], set(cells.split(line.partition(",")[2]))) for line in whole]
    lines = [f"{name},{int('red' in own)},{int('green' in own)}" for name, own in rows]
    table.write_text("\n".join(["path,red,green", *lines]), "utf-8")
    found = evaluate_run(run, table, backend="onnxruntime", report=tmp_path / "page.html")
    every = evaluate_run(run, data_of(run), part="all", backend="onnxruntime")
    assert isinstance(found, MultilabelEvalResult)
    assert isinstance(every, MultilabelEvalResult)
    assert found.evaluation.classes == ("green", "red")
    assert found.evaluation.per_class == every.evaluation.per_class[1:]
    values = [result.average_precision.value for result in every.evaluation.per_class[1:] if result.average_precision]
    assert found.evaluation.metrics["map"].value == pytest.approx(np.mean(values))
    assert any("left out of every number" in text for text in found.warnings)
    assert found.probabilities.shape == found.predicted.shape == (len(rows), 2)
    thresholds = {name: one.value for name, one in zip(run.classes, run.card.thresholds, strict=True)}
    assert [result.threshold for result in found.evaluation.per_class] == [thresholds["green"], thresholds["red"]]
    found.save_predictions(tmp_path / "predictions.csv")
    told = list(csv.DictReader((tmp_path / "predictions.csv").read_text("utf-8").splitlines()))
    assert list(told[0]) == ["source", "true", "predicted", "p green", "p red"]


@pytest.mark.parametrize("grouped", [False, True])
def test_pictures_in_groups_are_said(run: Run, tmp_path: Path, grouped: bool) -> None:
    table = data_of(run).parent / "groups.csv"
    rows = [f"{k:03d}.png,red,{'one' if grouped else k}" for k in range(6)]
    table.write_text("\n".join(["path,labels,group", *rows]), "utf-8")
    found = evaluate_run(run, table, backend="onnxruntime", report=tmp_path / "page.html")
    assert isinstance(found, MultilabelEvalResult)
    stored = MultilabelEvaluation.from_dict(json.loads(json.dumps(found.evaluation.to_dict())))
    for text in (stored.to_text(), (tmp_path / "page.html").read_text("utf-8")):
        assert ("Pictures of one group are alike" in text) == grouped


@pytest.mark.parametrize("option", ["against", "corruptions", "tta"])
def test_what_is_for_one_class_a_picture_is_refused(run: Run, option: str) -> None:
    value: dict[str, Any] = {"against": run, "corruptions": True, "tta": "flip"}
    with pytest.raises(UsageError, match=f"--{option} is for Runs that answer with one class a picture"):
        evaluate_run(run, **{option: value[option]})


def test_refusals_do_not_contradict_each_other(tmp_path: Path) -> None:
    """Of five channels too: not a word of --tta, which would be refused next."""
    fields = FIELDS | {"channels": 5, "mean": (0.0,) * 5, "std": (1.0,) * 5}
    several = tiny.make_run(
        tmp_path / "run", fields=fields, model=tiny.graph(task="multi", channels=5).SerializeToString()
    )
    with pytest.raises(UsageError, match="--corruptions is for Runs that answer with one class") as refused:
        evaluate_run(several, corruptions=True)
    assert "--tta" not in str(refused.value)


def test_a_run_of_one_class_a_picture_is_not_compared_with_it(run: Run, tmp_path: Path) -> None:
    data = load(tiny.write_folder(tmp_path / "data"), val_fraction=0.2, test_fraction=0.2)
    single = tiny.make_run(tmp_path / "single", data=data)
    with pytest.raises(UsageError, match="--against"):
        evaluate_run(single, against=run)
    with pytest.raises(DataError, match="any number of labels"):
        evaluate_run(single, data_of(run))


def test_thresholds_cannot_be_imported(run: Run) -> None:
    with pytest.raises(UsageError, match="answers with any number of labels"):
        import_weights(run.path / WEIGHTS)


def test_its_weights_start_another_training(run: Run) -> None:
    from resight.models import create, load_weights, read_weights

    source = read_weights(run.path)
    assert source.multilabel
    net = create("resnet20", num_classes=3, in_channels=3, **run.card.architecture.options)
    assert not load_weights(net, source).report.replaced_head


def test_the_doctor_looks_at_it(run: Run, tmp_path: Path) -> None:
    table = data_of(run).parent / "twice.csv"
    (table.parent / "copy.png").write_bytes((table.parent / "000.png").read_bytes())
    table.write_text(data_of(run).read_text("utf-8") + "copy.png,blue|green|red\n", "utf-8")
    found = examine(table, write_manifest=table.parent / "clean.csv", threads=1)
    assert "conflicting-labels" in {finding.kind for finding in found.findings} or "000.png" in found.to_text()
    assert json.dumps(found.to_dict())
    clean = load(table.parent / "clean.csv", val_fraction=0, test_fraction=0)
    before = {sample.source: sample.each for sample in load(data_of(run), val_fraction=0, test_fraction=0).samples}
    assert clean.task == "multi"
    assert all(before[sample.source] == sample.each for sample in clean.samples if sample.source in before)
    with pytest.raises(UsageError, match="one label each"):
        examine(data_of(run), run=run.path, threads=1)


def test_embeddings_and_neighbours(run: Run, tmp_path: Path) -> None:
    picture = data_of(run).parent / "000.png"
    labels = read_reference(run).labels
    assert labels.shape[1] == 3
    found = embed(run, [picture], backend="onnxruntime")
    assert set(cells.split(found.labels[0])) <= set(run.classes)
    near = similar(run, picture, backend="onnxruntime").found
    texts = {sample.name: load(data_of(run)).label_text(sample) for sample in load(data_of(run)).samples}
    assert all(texts[one.source] == one.label for one in near)


def test_explanations(run: Run, tmp_path: Path) -> None:
    from resight.commands.explain import explain

    found = explain(
        run, [data_of(run).parent / "000.png"], out=tmp_path, faithful=False, backend="onnxruntime", threads=1
    )
    (item,) = found.items
    assert item.labels is not None
    assert item.answer in found.to_text()
    assert item.answer.replace("&", "&amp;") in (tmp_path / "index.html").read_text("utf-8")
    assert len(item.maps) == 3


def test_the_page(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    evaluate_run(run, report=page, part="all", backend="onnxruntime")
    for path, size in ((page, DESKTOP), (run.path / REPORT, PHONE)):
        with opened(path, size) as seen:
            assert all(address.startswith(("file:", "data:")) for address in seen.requests)
            assert not seen.errors
            assert not seen.broken_pictures
            assert seen.overflow == 0
            assert "mean average precision" in seen.text
            assert "Class by class" in seen.text
            assert "How it was trained" in seen.text


def test_hostile_names_are_harmless_on_the_page(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "turned \u202e round")
    table = write_bands(tmp_path / "data", 30)
    rows = [line.split(",") for line in table.read_text("utf-8").splitlines()[1:]]
    for row in rows:
        for name, other in zip(("blue", "green", "red"), (cells.join([name]) for name in names), strict=True):
            row[1] = row[1].replace(name, other)
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "labels"], *rows])
    samples = load(table, val_fraction=0.2, test_fraction=0.3)
    classes = samples.classes
    assert set(classes) == set(names)
    model = tiny.graph(task="multi").SerializeToString()
    run = tiny.make_run(tmp_path / "run", classes=classes, fields=FIELDS, model=model)
    found = evaluate_run(run, table, report=tmp_path / "page.html", part="all", backend="onnxruntime")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "<script>" in found.evaluation.to_text()
    assert "\u202e" not in found.evaluation.to_text()


def test_preview_names_the_labels(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resight.commands.preview import preview
    from resight.training.loader import TrainLoader

    drawn: list[str] = []
    monkeypatch.setattr("resight.commands.preview._sheet", lambda pixels, names, out: drawn.extend(names) or out)
    seen: list[Any] = []
    make = TrainLoader.make
    monkeypatch.setattr(TrainLoader, "make", lambda self, step: seen.append(make(self, step)) or seen[-1])
    preview(data_of(run), image_size=28, out=tmp_path / "preview.png")
    train = load(data_of(run)).part("train")
    (batch,) = seen
    table = dict(line.split(",") for line in data_of(run).read_text("utf-8").splitlines()[1:])
    wanted = [set(cells.split(table[train[int(k)].source])) for k in batch.indices]
    assert [set(cells.split(name)) if name != "(no label)" else set() for name in drawn] == wanted
    assert len({frozenset(labels) for labels in wanted}) > 3
    assert set() in wanted
