"""eval --corruptions and --tta: the answers of a Run, on the same pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference import tiny
from typer.testing import CliRunner

from resight.cli import app
from resight.commands import robustness
from resight.commands.eval import evaluate_run
from resight.commands.robustness import CHUNK, asked, mirror_note
from resight.errors import ImageError, UsageError
from resight.evaluation.augmented import views_of
from resight.evaluation.corruptions import KINDS, SEVERITIES, corrupt
from resight.inference import Predictor
from resight.runs import Run
from resight.samples import load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "data", each=10)


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return tiny.make_run(tmp_path / "run", data=load(data))


@pytest.fixture
def pale(tmp_path: Path) -> Path:
    """Pictures that are nearly grey: easily taken for another class."""
    random = np.random.default_rng(0)
    for number, name in enumerate(tiny.CLASSES):
        (tmp_path / "pale" / name).mkdir(parents=True)
        for k in range(10):
            pixels = random.integers(100, 140, (10, 10, 3)) + 12 * (np.arange(3) == 2 - number)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pale" / name / f"{k}.png")
    return tmp_path / "pale"


def squares(run: Run, data: Path) -> np.ndarray:
    samples = load(data, val_fraction=0, test_fraction=0, training=False)
    return np.stack([run.card.geometry.apply(samples.read(sample, 3)) for sample in samples.samples])


def test_accuracies_are_those_of_the_corrupted_pictures(run: Run, pale: Path) -> None:
    """Against the corruptions and the Predictor, picture by picture."""
    kinds = ("impulse_noise", "frost", "contrast")  # the ice is blue
    result = evaluate_run(run, pale, corruptions=kinds)
    found, pixels = result.robustness, squares(run, pale)
    assert found is not None
    assert [kind.kind for kind in found.kinds] == list(kinds)
    predictor = Predictor(run)
    confidence = []
    for severity in SEVERITIES:
        for kind in found.kinds:
            changed = np.stack([corrupt(picture, kind.kind, severity) for picture in pixels])
            answers = predictor.run_pixels(changed).probabilities
            share = np.mean(answers.argmax(axis=1) == result.labels)
            assert kind.accuracy[severity - 1].value == pytest.approx(share)
            confidence.append(answers.max(axis=1).mean())
    assert found.confidence[1:] == pytest.approx(np.reshape(confidence, (5, 3)).mean(axis=1), abs=1e-5)
    assert found.confidence[0] == pytest.approx(result.probabilities.max(axis=1).mean())
    assert found.clean.value == result.evaluation.metrics["accuracy"].value > 0.8
    assert (found.n, found.available) == (30, 30)
    assert 0.05 < found.drop.value < 0.9
    assert evaluate_run(run, pale).robustness is None


def test_all_kinds_and_a_choice_of_pictures(run: Run, data: Path) -> None:
    some = evaluate_run(run, data, corruptions=True, corruption_pictures=6)
    assert some.robustness is not None
    assert [kind.kind for kind in some.robustness.kinds] == list(KINDS)
    assert (some.robustness.n, some.robustness.available) == (6, 30)
    assert some.evaluation.n == 30
    assert "6 of 30 pictures" in some.to_text()
    assert some.to_dict()["robustness"]["n"] == 6
    again = evaluate_run(run, data, corruptions=True, corruption_pictures=6, threads=1, batch=3)
    assert again.robustness == some.robustness  # neither threads nor batches change it


def test_pictures_beyond_one_chunk_are_kept_in_order(tmp_path: Path) -> None:
    """More than fit into memory at a time, each answered beside its own label."""
    run = tiny.make_run(tmp_path / "run")
    data = tiny.write_folder(tmp_path / "data", each=CHUNK // 2)
    result = evaluate_run(run, data, corruptions=["brightness"], corruption_pictures="all")
    assert result.robustness is not None
    assert result.robustness.n > CHUNK
    assert result.robustness.kinds[0].accuracy[0].value == 1
    augmented = evaluate_run(run, data, tta="flip").augmented
    assert augmented is not None
    assert (augmented.fixed, augmented.broken) == (0, 0)


def test_views_are_averaged(run: Run, data: Path) -> None:
    result = evaluate_run(run, data, tta="flip+shift")
    found, pixels = result.augmented, squares(run, data)
    assert found is not None
    predictor = Predictor(run)
    mean = np.mean([predictor.run_pixels(view).probabilities for view in views_of(pixels, "flip+shift")], axis=0)
    loss = -np.log(mean[np.arange(30), result.labels]).mean()
    assert found.evaluation.metrics["log_loss"].value == pytest.approx(loss, abs=1e-5)
    assert found.plain["log_loss"].value == pytest.approx(result.evaluation.metrics["log_loss"].value, abs=1e-5)
    assert found.cost > 1
    assert found.seconds > found.plain_seconds > 0
    assert result.to_dict()["tta"]["count"] == 10
    assert "10 views" in result.to_text()


def test_runs_trained_without_mirroring_are_said(tmp_path: Path, data: Path) -> None:
    def note(name: str, flip: object) -> str:
        config = json.dumps({"augment": {"flip": flip}, "data": {"path": str(data)}})
        return mirror_note(tiny.make_run(tmp_path / name, config=config))

    assert "without mirrored" in note("none", "none")
    assert "without mirrored" in note("false", False)
    assert [note(str(number), flip) for number, flip in enumerate(("random", "alternate", True))] == ["", "", ""]
    assert "not known" in mirror_note(tiny.make_run(tmp_path / "imported"))
    assert "not known" in mirror_note(tiny.make_run(tmp_path / "without", config="{}"))
    unseen = tiny.make_run(tmp_path / "digits", config=json.dumps({"augment": {"flip": "none"}}))
    assert "note: this Run was trained without" in evaluate_run(unseen, data, tta="flip").to_text()


def test_wishes_that_contradict_each_other_are_refused() -> None:
    assert asked(False, None, None).kinds == ()
    assert asked(["fog", " snow".strip(), "fog"], None, None).kinds == ("snow", "fog")
    assert asked("fog, snow", 5, None) == asked(["snow", "fog"], "5", None)
    assert asked(True, "all", None).pictures is None
    for wishes, message in (
        ((["rain"], None, None), "no corruption 'rain'"),
        (([], None, None), "no corruption"),
        ((True, None, "flip"), "one at a time"),
        ((False, 10, None), "no effect"),
        ((False, "all", "flip"), "no effect"),
        ((True, 0, None), "1 or more"),
        ((True, "some", None), "1 or more"),
        ((False, None, "rotate"), "no views"),
    ):
        with pytest.raises(UsageError, match=message):
            asked(*wishes)  # type: ignore[arg-type]


def test_the_command_line(run: Run, data: Path) -> None:
    runner = CliRunner()
    command = ["eval", str(run.path), str(data)]
    shown = runner.invoke(app, [*command, "--corruptions", "--corruption-kinds", "fog,jpeg", "--json"])
    assert shown.exit_code == 0
    stored = json.loads(shown.stdout)["robustness"]
    assert [kind["kind"] for kind in stored["kinds"]] == ["fog", "jpeg"]
    assert "Test-time augmentation: 2 views" in runner.invoke(app, [*command, "--tta"]).stdout
    for options in (["--corruption-kinds", "fog"], ["--tta-shifts"], ["--corruption-pictures", "5"]):
        refused = runner.invoke(app, [*command, *options])
        assert isinstance(refused.exception, UsageError), options
    refused = runner.invoke(app, [*command, "--corruptions", "--tta"])
    assert isinstance(refused.exception, UsageError)


def test_progress_is_said(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "EVERY", 0.0)
    monkeypatch.setattr(robustness, "CHUNK", 10)
    lines: list[str] = []
    evaluate_run(run, data, corruptions=["fog"], say=lines.append)
    evaluate_run(run, data, tta="flip", say=lines.append)
    assert lines[0] == "corrupting 30 pictures in 5 ways each …"
    said = [line.partition(", about ")[0] for line in lines[1:]]
    assert said == [f"{done} {n} of 30 pictures" for done in ("corrupted", "augmented") for n in (10, 20)]


def test_a_picture_that_went_away_is_an_error(run: Run, data: Path) -> None:
    """Between the two passes: said, not left out."""
    from resight.commands.robustness import measure_views

    samples = load(data, val_fraction=0, test_fraction=0, training=False)
    predictor = Predictor(run)
    found = predictor.answers(samples, range(30))
    (data / "blue" / "3.png").write_bytes(b"")
    with pytest.raises(ImageError):
        measure_views(predictor, samples, found, np.zeros(30, np.int64), "flip")
