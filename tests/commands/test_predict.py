from __future__ import annotations

import csv
import importlib.machinery
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tests.inference import tiny

from resight.commands.predict import find_sources, predict, prepare, resolve_run, stream
from resight.errors import MissingExtra, RunError, UsageError
from resight.inference import Predictions, unescape_cell
from resight.runs import CARD, ONNX, WEIGHTS, Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, colour in enumerate(("red", "green", "blue")):
        tiny.write_picture(tmp_path / "photos" / f"{k + 9}.png", colour, k)
    return tmp_path / "photos"


def answers(found: Predictions) -> list[tuple[str, str | None]]:
    return [(Path(p.source).name, p.label) for p in found]


EXPECTED = [("9.png", "red"), ("10.png", "green"), ("11.png", "blue")]


def test_folders_patterns_files_and_duplicates(run: Run, photos: Path) -> None:
    assert answers(predict(run, photos)) == EXPECTED
    assert answers(predict(run.path, f"{photos}/*.png")) == EXPECTED
    assert answers(predict(str(run.path), [photos / "10.png"])) == EXPECTED[1:2]
    assert answers(predict(run, [photos / "10.png", photos, f"{photos}/1*.png"])) == [
        EXPECTED[1],
        EXPECTED[0],
        EXPECTED[2],
    ]


def test_bytes_and_arrays(run: Run, photos: Path) -> None:
    data = (photos / "9.png").read_bytes()
    assert answers(predict(run, data)) == [("#0", "red")]
    assert answers(predict(run, [data, tiny.picture("blue")])) == [("#0", "red"), ("#1", "blue")]
    assert answers(predict(run, tiny.picture("green"))) == [("#0", "green")]
    with pytest.raises(UsageError, match="not both"):
        find_sources([data, photos / "9.png"])


@pytest.mark.parametrize("images", ["missing.png", "*.nothing", "https://example.org/cat.jpg", [], ""])
def test_inputs_without_pictures_are_refused_before_the_run_is_opened(
    images: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        predict(tmp_path / "no-run", images)


def test_hostile_names_survive_in_csv_and_json(run: Run, tmp_path: Path) -> None:
    names = ["=cmd.png", "'x.png", "a\n\u202e.png", 'q"<b>.png', os.fsdecode(b"\xff.png")]
    paths = [tiny.write_picture(tmp_path / "p" / name, "red") for name in names]
    found = predict(run, paths)
    found.to_csv(tmp_path / "out.csv")
    found.to_json(tmp_path / "out.json")
    with open(tmp_path / "out.csv", encoding="utf-8", errors="surrogateescape", newline="") as lines:
        assert [unescape_cell(row["source"]) for row in csv.DictReader(lines)] == [str(p) for p in paths]
    stored = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [item["source"] for item in stored] == [str(p) for p in paths]
    assert {p.label for p in found} == {"red"}


def test_names_relative_to_here_stay_as_given(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    tiny.write_picture(photos / "=1.png", "red")
    found = predict(run, "=*.png")
    assert found[0].source == "=1.png"
    found.to_csv("out.csv")
    assert Path("out.csv").read_text("utf-8").splitlines()[1].startswith('"\'=1.png"')


def test_stream_answers_one_by_one(run: Run, photos: Path) -> None:
    found = stream(run, photos, top=1, batch=1)
    first = next(found)
    assert (first.label, len(first.top)) == ("red", 1)
    assert len(list(found)) == 2
    assert len(prepare(run, photos).sources) == 3
    with pytest.raises(UsageError, match="top"):
        stream(run, photos, top=0)  # at the call, not at the first picture
    with pytest.raises(UsageError, match="backend"):
        stream(run, photos, backend="tensorrt")


def test_paths_that_are_no_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"has no {CARD}"):
        resolve_run(tmp_path)
    with pytest.raises(RunError, match="there is no Run at"):
        resolve_run(tmp_path / "flwers")
    with pytest.raises(RunError, match="is a Run's card"):
        resolve_run(run.path / CARD)
    assert resolve_run(run) is run


@pytest.mark.parametrize("word", ["flwers", "resnet50", "weights.pth", "flowers-1", "a.b.c"])
def test_a_word_that_is_nothing(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=f"there is no Run, file or tag named {word}") as caught:
        resolve_run(word)
    assert all(form in str(caught.value) for form in ("runs/", "weights.pth", "resnet50.tv2_in1k"))


def test_an_empty_name_is_not_the_current_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path)
    with pytest.raises(UsageError, match="empty"):
        resolve_run("")


def test_weights_without_torch_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").write_bytes(b"x")
    for source in ("resnet50.tv2_in1k", tmp_path / "weights.pth"):
        with pytest.raises(MissingExtra, match=r"resight\[train\]") as caught:
            resolve_run(source)
        assert caught.value.extra == "train"


def test_weights_are_imported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the hand-over: which function is called with what. The import has tests of its own."""
    asked = []

    def cached_import(source: str) -> Run:
        asked.append(source)
        return run

    fake = types.ModuleType("resight.commands.import_")
    fake.cached_import = cached_import  # type: ignore[attr-defined]
    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "resight.commands.import_", fake)
    assert resolve_run("resnet50.tv2_in1k") is run
    assert asked == ["resnet50.tv2_in1k"]


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "pydantic", "accelerate"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
import resight.commands.predict, resight.commands.eval
assert "onnxruntime" not in sys.modules, "slows --help down"
run, photos, data = sys.argv[1:]
print([p.label for p in resight.commands.predict.predict(run, photos)])
print(resight.commands.eval.evaluate_run(run, data).evaluation.metrics["accuracy"].value)
assert "torch" not in sys.modules
"""


def test_torch_is_never_imported(run: Run, photos: Path, tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "data", each=2)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(run.path), str(photos), str(data)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == "['red', 'green', 'blue']\n1.0\n"


def test_thousands_of_files_in_order(run: Run, tmp_path: Path) -> None:
    for k in range(3000):
        (tmp_path / f"{k}.png").hardlink_to(tmp_path / f"{k - 3}.png") if k > 2 else tiny.write_picture(
            tmp_path / f"{k}.png", tiny.CLASSES[k], k
        )
    order = [Path(p.source).stem for p in stream(run, [tmp_path])]
    assert order == [str(k) for k in range(3000)]
    labels = {p.label for p in predict(run, f"{tmp_path}/*0.png")}
    assert labels == set(tiny.CLASSES)


def test_probabilities_are_those_of_float32(run: Run, photos: Path) -> None:
    for found in predict(run, photos):
        assert found.probability == float(np.float32(found.probability))


def test_every_backend_answers_alike(run: Run, photos: Path) -> None:
    one, other = (predict(run, photos, backend=name, threads=2) for name in ("onnxruntime", "openvino"))
    assert answers(one) == answers(other) == EXPECTED
    assert [p.probability for p in one] == pytest.approx([p.probability for p in other], abs=1e-6)


def test_only_the_files_that_are_used_are_verified(photos: Path, tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    (run.path / WEIGHTS).unlink()
    for backend in ("onnxruntime", "openvino"):
        assert answers(predict(run.path, photos, backend=backend)) == EXPECTED
    (run.path / ONNX).write_bytes(tiny.graph(temperature=1.0).SerializeToString())
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(RunError, match="changed after the Run was sealed"):
            predict(run.path, photos, backend=backend)
    (run.path / ONNX).unlink()
    with pytest.raises(RunError, match=ONNX):
        predict(run.path, photos)
