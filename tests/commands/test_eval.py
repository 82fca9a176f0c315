from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference import tiny

from resight.commands.eval import evaluate_run
from resight.commands.export import export
from resight.commands.own_data import learned, match_classes
from resight.errors import DataError, MissingExtra, RunError, UsageError
from resight.inference import BACKENDS, unescape_cell
from resight.runs import CONFIG, ONNX, SPLIT, WEIGHTS, Run, open_artifact
from resight.samples import load, split_csv


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "data", each=10)


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return tiny.make_run(tmp_path / "run", data=load(data))


def test_its_own_data_split_as_then(run: Run, data: Path) -> None:
    result = evaluate_run(run)
    expected = [sample.source for sample in load(data).part("test")]
    assert (result.part, list(result.sources)) == ("test", expected)
    assert result.evaluation.metrics["accuracy"].value == 1
    assert len(evaluate_run(run, part="train").sources) == 24
    assert len(evaluate_run(run, part="all").sources) == 30
    assert evaluate_run(run.path, part="val").evaluation.n == 3


def test_a_folder_without_splits_is_evaluated_as_a_whole(run: Run, data: Path) -> None:
    result = evaluate_run(run, data)
    assert (result.part, result.evaluation.n) == ("all", 30)
    (warning,) = result.warnings
    assert "learned from 24 of these 30 pictures" in warning


def test_logits_are_those_of_the_answers(run: Run) -> None:
    result = evaluate_run(run)
    powers = np.exp(result.logits.astype(np.float64))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), result.probabilities, atol=1e-6)
    expected = -np.log(result.probabilities[np.arange(3), result.labels].astype(np.float64)).mean()
    assert result.evaluation.metrics["log_loss"].value == pytest.approx(expected, abs=1e-5)


def test_classes_are_matched_by_name_not_by_position(tmp_path: Path) -> None:
    """The Run's order is not that of folders: with positions, every answer would be wrong."""
    names = ("zebra", "mule", "ass")  # blue, green, red
    run = tiny.make_run(tmp_path / "run", classes=names)
    result = evaluate_run(run, tiny.write_folder(tmp_path / "data", names))
    assert result.evaluation.metrics["accuracy"].value == 1
    assert result.evaluation.classes == names
    assert [names[k] for k in result.labels] == [Path(source).parts[0] for source in result.sources]


def test_a_class_missing_in_the_data_is_said_and_shifts_nothing(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    data = tiny.write_folder(tmp_path / "data", ("green", "red"), colours=("green", "red"))
    result = evaluate_run(run, data)
    assert set(result.labels) == {1, 2}
    assert result.evaluation.metrics["accuracy"].value == 1
    (warning,) = result.warnings
    assert "1 of the Run's 3 classes are not in the data: blue" in warning
    assert warning in result.to_text()


def test_an_unknown_class_is_refused_with_both_lists(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    data = tiny.write_folder(tmp_path / "data", ("Blue", "green", "red"))
    with pytest.raises(DataError) as caught:
        evaluate_run(run, data)
    assert "unknown to the Run: Blue" in str(caught.value)
    assert "the data has: Blue, green, red" in str(caught.value)
    assert "the Run knows: blue, green, red" in str(caught.value)


def test_match_classes() -> None:
    assert match_classes(("b", "a"), ("a", "x", "b")) == (
        [2, 0],
        ["1 of the Run's 3 classes are not in the data: x"],
    )
    assert match_classes(("a", "b"), ("a", "b")) == ([0, 1], [])


def test_split_folders_mean_test_unless_told(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    for split, each in (("train", 3), ("val", 2), ("test", 1)):
        tiny.write_folder(tmp_path / "data" / split, each=each)
    assert evaluate_run(run, tmp_path / "data").evaluation.n == 3
    assert evaluate_run(run, tmp_path / "data", part="val").evaluation.n == 6
    assert evaluate_run(run, tmp_path / "data", part="all").evaluation.n == 18
    shutil.rmtree(tmp_path / "data" / "test")
    with pytest.raises(DataError, match=r"no test part; it has train: 9, val: 6, test: 0"):
        evaluate_run(run, tmp_path / "data")
    with pytest.raises(DataError, match="no pictures in test"):
        evaluate_run(run, tmp_path / "data", part="test")
    with pytest.raises(UsageError, match="train, val, test, all"):
        evaluate_run(run, tmp_path / "data", part="dev")


def test_bad_pictures_are_all_listed_or_counted(run: Run, data: Path) -> None:
    bad = ["blue/3.png", "red/9.png"]
    for source in bad:
        (data / source).write_bytes(b"")
    with pytest.raises(DataError, match="2 pictures cannot be read") as caught:
        evaluate_run(run, data)
    assert all(source in str(caught.value) for source in bad)
    result = evaluate_run(run, data, skip_bad=True)
    assert [source for source, _ in result.skipped] == bad
    assert result.evaluation.n == len(result.sources) == 28
    assert not set(bad) & set(result.sources)
    assert result.evaluation.metrics["accuracy"].value == 1
    assert "2 pictures could not be read" in result.to_text()
    assert [item["source"] for item in result.to_dict()["skipped"]] == bad
    for path in data.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 30"):
        evaluate_run(run, data, skip_bad=True)


def test_predictions_say_which_were_wrong(run: Run, data: Path, tmp_path: Path) -> None:
    tiny.write_picture(data / "blue" / "3.png", "red")
    (data / "blue" / "4.png").rename(data / "blue" / "\t=4.png")
    out = tmp_path / "out.csv"
    result = evaluate_run(run, data, predictions=out)
    with out.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["source", "true", "predicted", "probability"]
    assert [unescape_cell(row["source"]) for row in rows] == list(result.sources)
    assert [row["source"] for row in rows if row["true"] != row["predicted"]] == ["blue/3.png"]
    wrong = next(row for row in rows if row["source"] == "blue/3.png")
    assert wrong["predicted"] == "red"
    assert 0.5 < float(wrong["probability"]) < 1


def test_result_as_json_and_text(run: Run, data: Path) -> None:
    plain = json.loads(json.dumps(evaluate_run(run, data).to_dict(), allow_nan=False))
    assert (plain["part"], plain["data"], plain["evaluation"]["n"]) == ("all", str(data), 30)
    assert plain["backend"]["name"] in BACKENDS
    assert plain["backend"]["reason"]
    assert evaluate_run(run, data, backend="openvino").to_dict()["backend"]["name"] == "openvino"
    text = evaluate_run(run).to_text()
    assert "part test" in text
    assert "accuracy" in text


def test_data_that_is_gone_changed_or_unknown(run: Run, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its data is not known"):
        evaluate_run(tiny.make_run(tmp_path / "imported"))
    tiny.write_picture(data / "red" / "new.png", "red")
    with pytest.raises(DataError, match="1 added"):
        evaluate_run(run)
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="any more"):
        evaluate_run(run)
    with pytest.raises(UsageError):
        evaluate_run(run, data)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"data": 1}', '{"data": {}}'])
def test_a_config_without_the_place_of_the_data(text: str, tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run", config=text)
    with pytest.raises(RunError, match=r"where the data is|not valid JSON"):
        evaluate_run(run)


def test_a_config_that_was_put_into_an_imported_run_is_not_used(tmp_path: Path, data: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    (run.path / CONFIG).write_text(json.dumps({"data": {"path": str(data)}}), "utf-8")
    split_csv.write(run.path / SPLIT, load(data))
    with pytest.raises(UsageError, match=f"has no {CONFIG} of its own"):
        evaluate_run(run)


@pytest.mark.parametrize("name", [CONFIG, SPLIT])
def test_what_is_parsed_is_what_was_hashed(name: str, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanged right after it was read, as by another process: the second half of a check and a use."""
    read = Path.read_bytes
    evil = {CONFIG: json.dumps({"data": {"path": str(data.parent)}}), SPLIT: "nothing"}[name]

    def exchange(path: Path) -> bytes:
        found = read(path)
        if path == run.path / name:
            path.write_text(evil, "utf-8")
        return found

    monkeypatch.setattr(Path, "read_bytes", exchange)
    monkeypatch.setattr("resight.runs.run.sha256_of", lambda path: hashlib.sha256(exchange(path)).hexdigest())
    assert evaluate_run(run).evaluation.n == 3


def test_a_replaced_picture_of_the_same_name_is_said(tmp_path: Path, data: Path) -> None:
    samples = load(data)
    run = tiny.make_run(tmp_path / "run", data=samples, fields={"data": {"fingerprint": samples.fingerprint()}})
    assert evaluate_run(run).warnings == ()
    Image.fromarray(tiny.picture("red", side=30)).save(data / "red" / "0.png")
    (warning,) = evaluate_run(run).warnings
    assert "replaced since training" in warning


def test_a_table_with_a_test_part_alone(run: Run, data: Path) -> None:
    (data / "t.csv").write_text("path,label,split\nred/1.png,red,test\nblue/1.png,blue,test\n", "utf-8")
    result = evaluate_run(run, data / "t.csv")
    assert (result.part, result.evaluation.n) == ("test", 2)
    assert result.evaluation.metrics["accuracy"].value == 1


def test_a_folder_with_a_test_part_alone_or_one_class(run: Run, tmp_path: Path) -> None:
    tiny.write_folder(tmp_path / "split" / "test", each=2)
    assert evaluate_run(run, tmp_path / "split").part == "test"
    one = tiny.write_folder(tmp_path / "one", ("red",), colours=("red",))
    result = evaluate_run(run, one)
    assert (result.part, result.evaluation.n, set(result.labels)) == ("all", 4, {run.classes.index("red")})


def test_data_by_name(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the hand-over; downloading has tests of its own."""
    monkeypatch.setattr("resight.training.named.data_path", {"torchvision:MNIST": data}.__getitem__)
    assert evaluate_run(run, "torchvision:MNIST").data == data
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtra, match=r"resight\[train\]"):
        evaluate_run(run, Path("torchvision:MNIST"))


def test_a_changed_split_is_refused_and_files_that_are_not_used_are_not(run: Run, data: Path) -> None:
    (run.path / WEIGHTS).unlink()
    assert evaluate_run(run.path).choice is not None
    (run.path / SPLIT).write_text((run.path / SPLIT).read_text("utf-8").replace("test", "train"), "utf-8")
    with pytest.raises(RunError, match=SPLIT):
        evaluate_run(run.path)
    assert evaluate_run(run.path, data, backend="openvino").evaluation.metrics["accuracy"].value == 1


def test_a_report_is_written_where_it_is_asked_for_and_never_into_a_run(run: Run, tmp_path: Path) -> None:
    evaluate_run(run, report=tmp_path / "page.html")
    assert "<!doctype html>" in (tmp_path / "page.html").read_text("utf-8")
    before = sorted(path.name for path in run.path.iterdir())
    for place in (run.path / "report.html", run.path / "checkpoints" / "report.html"):
        with pytest.raises(UsageError, match="never changes"):
            evaluate_run(run, report=place)
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_two_runs_on_the_same_pictures(run: Run, data: Path, tmp_path: Path) -> None:
    """The second knows the classes in another order, and takes blue for green: paired by picture, by name."""
    swapped = tiny.make_run(tmp_path / "swapped", classes=("green", "blue", "red"))
    result = evaluate_run(run, data, against=swapped, report=tmp_path / "page.html")
    assert result.against is not None
    pair = result.against.comparison.overall
    assert (pair.n, pair.both, pair.only_first, pair.only_second) == (30, 10, 20, 0)
    assert result.against.only_first == tuple(s for s in result.sources if not s.startswith("red"))
    assert [(p.name, p.only_first) for p in result.against.comparison.per_class] == [
        ("blue", 10),
        ("green", 10),
        ("red", 0),
    ]
    assert "more than luck explains" in result.to_text()
    assert "and 10 more" in result.to_text()
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))["against"]
    assert (stored["overall"]["only_first"], len(stored["only_first"])) == (20, 20)
    assert "Against swapped" in (tmp_path / "page.html").read_text("utf-8")
    same = evaluate_run(run, data, against=run)
    assert "no picture tells them apart" in same.to_text()


def test_a_second_run_that_learned_from_these_pictures_is_said(run: Run, data: Path, tmp_path: Path) -> None:
    result = evaluate_run(run, data, against=run)
    assert result.against is not None
    (warning,) = result.against.warnings
    assert "learned from 24 of these 30 pictures" in warning
    assert warning in result.to_text()
    assert evaluate_run(run, against=run).against.warnings == ()  # type: ignore[union-attr]


def test_what_a_run_learned_from_is_known_after_other_pictures_changed(run: Run, data: Path) -> None:
    """Also of another table in the same place; not of pictures that have other names now."""
    train = [sample for sample in load(data).samples if sample.split == "train"]
    data.joinpath(train[0].source).rename(data / "red" / "renamed.png")
    (warning,) = evaluate_run(run, data).warnings
    assert "learned from 23 of these 30 pictures" in warning
    (data / "some.csv").write_text(f"path,label\n{train[1].source},red\n{train[2].source},red\n", "utf-8")
    samples = load(data / "some.csv", training=False)
    assert "learned from 2 of these 2 pictures" in learned(run, samples, [0, 1])[0]
    (run.path / SPLIT).write_bytes(b"damaged")
    assert "is not known" in learned(run, samples, [0, 1])[0]


def test_a_second_run_without_these_classes_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    other = tiny.make_run(tmp_path / "other", classes=("a", "b", "c"))
    with pytest.raises(DataError, match="unknown to the Run"):
        evaluate_run(run, data, against=other)


def test_groups_of_a_table_have_results(run: Run, data: Path) -> None:
    (data / "t.csv").write_text(
        "path,label,split,group\nred/1.png,red,test,a\nblue/1.png,red,test,b\nblue/2.png,blue,test,b\n", "utf-8"
    )
    found = evaluate_run(run, data / "t.csv", report=data.parent / "page.html")
    for text in (found.to_text(), (data.parent / "page.html").read_text("utf-8")):
        assert "Pictures of one group are alike" in text
    groups = found.evaluation.groups
    assert [(group.name, group.n, group.accuracy.value) for group in groups] == [("b", 2, 0.5), ("a", 1, 1.0)]


@pytest.fixture
def exported(run: Run, data: Path) -> Run:
    """With an fp32 artefact, and a copy of it that calls itself int8 and has a temperature of its own."""
    for name in ("plain", "quick"):
        export(run, "onnx", name=name, data=data)
    folder = run.path / "artifacts" / "quick"
    graph = tiny.graph(temperature=2.5).SerializeToString()
    (folder / ONNX).write_bytes(graph)
    card = folder / "card.json"
    own = {"precision": "int8", "temperature": 2.5, "quantization": {"fp32_layers": ["layer1.0.conv1"]}}
    own["files"] = {ONNX: hashlib.sha256(graph).hexdigest()}
    card.write_text(json.dumps(json.loads(card.read_text("utf-8")) | own), "utf-8")
    return run


def test_a_page_says_which_artefact_it_speaks_of(exported: Run, data: Path, tmp_path: Path) -> None:
    pages = {}
    for name in (None, "plain", "quick"):
        page = tmp_path / f"{name}.html"
        result = evaluate_run(exported, data, artifact=name, report=page)
        pages[name] = page.read_text("utf-8")
        assert result.artifact == name
        assert result.to_dict()["artifact"] == name
        assert (f"artefact {name}," in result.to_text()) == (name is not None)
    assert "artefact" not in pages[None]
    for name in ("plain", "quick"):
        assert f"artefact {name}</b>, not by model.onnx" in pages[name]
        assert f" as {name} on data?" in pages[name]
        assert open_artifact(exported, name).sha256[:12] in pages[name]
    assert "stayed in fp32" not in pages["plain"]
    assert "stayed in fp32: layer1.0.conv1." in pages["quick"]
    assert "No heat maps: an int8 form rounds its last layer" in pages["quick"]
    assert "The temperature, 2.500," in pages["quick"]
    assert "The temperature, 2.500," not in pages["plain"]
