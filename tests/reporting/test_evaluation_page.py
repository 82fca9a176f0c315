"""The report of an evaluation, in a real browser: what it says, hostile names, a hundred classes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save as save_tensors
from tests.inference import tiny
from tests.reporting.browser import DESKTOP, PHONE, opened

from resight.evaluation import compare_answers, evaluate
from resight.inference import Predictor
from resight.reporting import figures
from resight.reporting.evaluation_page import Answered, Rival, write_report
from resight.runs import HISTORY, WEIGHTS, Run
from resight.samples import Sample, SampleSet, load

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "=cmd|'/c calc'!A1 $x^2$ \\frac",
    "\u202ereversed\u2028two\nlines",
    "{{ 7 * 7 }}{% raw %}",
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for k in range(6):
        Image.fromarray(tiny.picture("blue", k)).save(tmp_path / f"<b>{k}&'\".png")
    return tmp_path


def answered(
    run: Run, root: Path, names: tuple[str, ...], n: int, *, seed: int = 0, group: str | None = None
) -> Answered:
    """Made-up answers to the same few files again and again: the page does not care."""
    random = np.random.default_rng(seed)
    files = sorted(path.name for path in root.glob("*.png"))
    labels = np.arange(n) % len(names)
    samples = tuple(Sample(files[k % len(files)], None, int(labels[k]), "test", group) for k in range(n))
    logits = random.normal(size=(n, len(names))).astype(np.float32)
    logits[np.arange(n), labels] += 3
    found = evaluate(logits, labels, names, temperature=run.card.temperature, groups=[s.group for s in samples])
    held = SampleSet(root, names, samples, 3, "folder")
    return Answered(run, held, root.name, "test", True, np.arange(n), labels, logits, found)


def test_hostile_names_are_only_shown(tmp_path: Path, pictures: Path) -> None:
    run = tiny.make_run(tmp_path / "run", classes=HOSTILE, model=tiny.graph(5).SerializeToString())
    given = answered(run, pictures, HOSTILE, 60, group="<script>alert(3)</script>")
    predicted = given.logits.argmax(axis=1)
    comparison = compare_answers(predicted, given.labels, given.labels, HOSTILE)
    rival = Rival(HOSTILE[0], comparison, np.arange(60), tuple(HOSTILE[k] for k in given.labels))
    given = Answered(
        **{**vars(given), "rival": rival, "warnings": (HOSTILE[1],), "skipped": ((HOSTILE[0], HOSTILE[1]),)}
    )
    path = tmp_path / "report.html"
    write_report(path, given, Predictor(run, backend="onnxruntime"))
    for size in (DESKTOP, PHONE):
        with opened(path, size) as seen:
            assert HOSTILE[0] in seen.text
            assert "{{ 7 * 7 }}" in seen.text
            assert "\u202e" not in path.read_text("utf-8")
            assert (seen.dialogs, seen.errors, seen.overflow, seen.broken_pictures) == ([], [], 0, 0)
            assert [url for url in seen.requests if not url.startswith(("data:", "file:"))] == []


def test_a_hundred_classes(tmp_path: Path, pictures: Path) -> None:
    names = tuple(f"class number {k}" for k in range(100))
    run = tiny.make_run(tmp_path / "run", classes=names, model=tiny.graph(100).SerializeToString())
    path = tmp_path / "report.html"
    write_report(path, answered(run, pictures, names, 3000), Predictor(run, backend="onnxruntime"))
    assert path.stat().st_size < 3_000_000
    with opened(path, PHONE) as seen:
        assert (seen.overflow, seen.broken_pictures) == (0, 0)
        assert "class number 99" in seen.page.content()
        height = seen.page.evaluate("document.querySelector('.wide img').getBoundingClientRect().height")
        assert height > 100 * 12  # pixels for the line of each class
        assert "3,000 pictures" in seen.text


def test_the_verdict_and_what_it_rests_on(tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "data", each=10)
    run = tiny.make_run(tmp_path / "run", data=load(data))
    from resight.commands.eval import evaluate_run

    path = tmp_path / "report.html"
    evaluate_run(run, report=path)
    with opened(path) as seen:
        assert "It is right on 100.0\u00a0% of 3 pictures." in seen.text
        assert "3 pictures are few" in seen.text
        assert "No heat maps" in seen.text  # this Run's weights hold no last layer
        assert "The most confident mistakes" not in seen.text
        assert "never on test" not in seen.text  # nor was its temperature fitted
    evaluate_run(run, part="train", report=path)
    with opened(path) as seen:
        assert "pictures that it learned from" in seen.text


def test_how_many_are_called_unknown(tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "data", each=10)
    run = tiny.make_known_run(tmp_path / "run")
    from resight.commands.eval import evaluate_run

    result = evaluate_run(run, data, report=tmp_path / "report.html")
    assert result.unknown is not None
    with opened(tmp_path / "report.html") as seen:
        assert f"It calls {100 * result.unknown.value:.1f}\u00a0% of them unknown" in seen.text


@pytest.mark.parametrize("own", [True, False])
def test_heat_maps_where_the_last_layer_makes_the_answer(tmp_path: Path, pictures: Path, own: bool) -> None:
    head = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    run = tiny.make_run(tmp_path / "run", model=tiny.graph(head=head).SerializeToString())
    stored = {"fc.weight": head if own else 2 * head, "fc.bias": np.zeros(3, np.float32)}
    (run.path / WEIGHTS).write_bytes(save_tensors(stored))
    run.card.files[WEIGHTS] = hashlib.sha256((run.path / WEIGHTS).read_bytes()).hexdigest()
    path = tmp_path / "report.html"
    write_report(path, answered(run, pictures, run.classes, 30), Predictor(run, backend="onnxruntime"))
    text = path.read_text("utf-8")
    assert ("where it looked for" in text) == own
    assert ("No heat maps" in text) != own


def test_a_name_is_no_formula() -> None:
    figure = figures.confusion_matrix(np.eye(2, dtype=np.int64), ["$x^2$", "$\\frac{$"])
    figure.savefig(io.BytesIO(), format="svg")  # would raise where it were read as mathematics


def test_no_more_classes_than_can_be_read_are_drawn(tmp_path: Path, pictures: Path) -> None:
    names = tuple(f"c{k}" for k in range(130))
    run = tiny.make_run(tmp_path / "run", classes=names, model=tiny.graph(130).SerializeToString())
    path = tmp_path / "report.html"
    write_report(path, answered(run, pictures, names, 260), Predictor(run, backend="onnxruntime"))
    assert "Of 130 classes the 100 with the most mistakes." in path.read_text("utf-8")


def test_what_became_of_weights_from_elsewhere(tmp_path: Path, pictures: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    run.card = replace(run.card, transfer={"kept": "features", "why": "the probe has 60.1 % of <b>"})
    (run.path / HISTORY).write_text('{"epoch": 0, "train_loss": 0.5, "val_loss": 0.6}\n')
    run.card.files[HISTORY] = hashlib.sha256((run.path / HISTORY).read_bytes()).hexdigest()
    path = tmp_path / "report.html"
    write_report(path, answered(run, pictures, run.classes, 30), Predictor(run, backend="onnxruntime"))
    with opened(path) as seen:
        assert "Kept: features, because the probe has 60.1 % of <b>. Epoch 0 is the probe" in seen.text
