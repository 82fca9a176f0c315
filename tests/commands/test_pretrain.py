"""``resight pretrain``: a real Run of a moment, and everything that is done with it or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.training.tiny import Recorder, write_patterns
from typer.testing import CliRunner

import resight
from resight.cli import app
from resight.commands import pretrain as command
from resight.commands import resume
from resight.errors import DataError, Interrupted, RunError, UsageError
from resight.inference import Predictor
from resight.models import create, read_weights
from resight.runs import CARD, CONFIG, HISTORY, REPORT, SPLIT, WEIGHTS, Run, RunCard
from resight.samples import load
from resight.training.checkpoint import found

TINY: dict[str, Any] = {
    "model.options.stem": "tiny",
    "total_steps": 6,
    "threads": 1,
    "pretrain.hidden": 16,
    "pretrain.width": 8,
}


def pretrained(data: Path, out: Path, **changes: Any) -> Run:
    options = {"model": "resnet20", "workers": 0, "batch": 16, "device": "cpu", "out": out, "set": TINY} | changes
    return resight.pretrain(data, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("patterns"), 20)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pretrained(data, tmp_path_factory.mktemp("runs") / "run")


def test_its_card_has_no_classes_and_says_how_it_was_made(run: Run) -> None:
    card = Run.open(run.path).card
    assert (card.task, card.classes, card.status, card.metrics) == ("features", (), "sealed", {})
    assert card.pretraining["method"] == "simclr"
    assert card.pretraining["crops"] == 6 * 16 * 2
    assert {"spread", "rank", "alignment", "uniformity", "knn", "linear"} <= card.pretraining["signals"].keys()
    assert [line["step"] for line in map(json.loads, run.file(HISTORY).read_text().splitlines())] == [3, 6]
    assert "embedding" not in json.loads(run.file(CARD).read_text())["classes"]


def test_torchvision_and_timm_take_its_weights(data: Path, tmp_path: Path) -> None:
    from timm import create_model
    from torchvision.models import resnet18

    made = pretrained(
        data, tmp_path / "run", model="resnet18", set=TINY | {"total_steps": 1, "model.options.stem": "imagenet"}
    )
    state = load_file(made.file(WEIGHTS))
    net, other = resnet18(num_classes=10), create_model("resnet18", num_classes=0)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    net.fc = torch.nn.Identity()
    other.load_state_dict(state)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3)).astype(np.uint8)
    (ours,) = Predictor(made, embeds=True).ask(pixels, ("embedding",))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (made.card.mean, made.card.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    for peer in (net, other):
        with torch.inference_mode():
            theirs = peer.eval()(images).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_its_file_says_what_it_is(run: Run) -> None:
    with safe_open(run.file(WEIGHTS), framework="pt") as file:
        about = json.loads(file.metadata()["resight"])
        assert not any(name.startswith(("fc.", "projector")) for name in file.keys())  # noqa: SIM118
    assert about == {"architecture": "resnet20", "options": {"stem": "tiny"}, "task": "features"}
    source = read_weights(run.path)
    assert (source.architecture, source.classes) == ("resnet20", None)
    assert create("resnet20", weights=run.path, num_classes=0, stem="tiny").num_classes == 0


def test_its_page_shows_curves_neighbours_and_a_plane(run: Run) -> None:
    page = run.file(REPORT).read_text()
    assert page.count("data:image/svg+xml") == 2
    assert page.count("data:image/jpeg") > 12
    assert "nearest labelled training pictures" in page
    assert "<script" not in page


def test_training_goes_on_from_it(run: Run, data: Path, tmp_path: Path) -> None:
    trained = resight.train(
        data, weights=run.path, recipe="features", workers=0, device="cpu", out=tmp_path / "trained"
    )
    assert trained.card.architecture.options == {"stem": "tiny"}
    assert trained.card.geometry == run.card.geometry
    ours, theirs = load_file(trained.file(WEIGHTS)), load_file(run.file(WEIGHTS))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_its_embeddings_find_what_is_alike(run: Run, data: Path) -> None:
    found = resight.embed(run, data)
    assert found.embeddings.shape == (60, 64)
    assert set(found.labels) == {""}
    assert found.unknown is not None or run.card.unknown == {}
    first = data / "rows" / "00.png"
    (best, *_) = resight.similar(run, first, data, top=3).found
    assert best.label == ""
    (own, *_) = resight.similar(run, first).found  # of the training pictures that it carries
    assert own.source.endswith(".png")


def test_the_table_of_embeddings_is_written(run: Run, data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["embed", str(run.path), str(data), "--out", str(tmp_path / "found.npz")])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "found.npz") as arrays:
        assert arrays["embeddings"].shape == (60, 64)
    result = CliRunner().invoke(app, ["embed", str(run.path), "--similar-to", str(data / "rows" / "00.png")])
    assert result.exit_code == 0, result.output


REFUSED: dict[str, Callable[[Run, Path, Path], Any]] = {
    "predict": lambda run, data, out: resight.predict(run, data),
    "predict to a file": lambda run, data, out: resight.predict_to_file(run, data, out / "found.jsonl"),
    "eval": lambda run, data, out: resight.evaluate_run(run, data),
    "serve": lambda run, data, out: resight.serve(run.path),
    "export": lambda run, data, out: resight.export(run, to="onnx"),
    "int8": lambda run, data, out: __import__("resight.commands.quantize", fromlist=["x"]).quantize_run(run),
    "bench": lambda run, data, out: resight.bench(run),
    "explain": lambda run, data, out: resight.explain(run, data),
    "doctor": lambda run, data, out: resight.examine(data, run=run.path),
    "from": lambda run, data, out: resight.train(data, from_run=run.path, out=out / "run"),
    "teacher": lambda run, data, out: resight.train(data, teacher=run.path, out=out / "run"),
    "batches": lambda run, data, out: resight.BatchPredictor(run.path),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_classes_is_refused_in_one_sentence(what: str, run: Run, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        REFUSED[what](run, data, tmp_path)
    assert "was pretrained without labels: it has no classes" in str(refused.value)
    assert "resight train DATA --weights" in str(refused.value)
    assert refused.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_pictures_of_a_flat_or_nested_folder_need_no_labels(data: Path, tmp_path: Path) -> None:
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    flat.mkdir()
    for number, path in enumerate(sorted(data.rglob("*.png"))[::2]):
        shutil.copy(path, flat / f"{number}.png")
    shutil.copytree(flat, nested / "2024" / "may")
    run = pretrained(nested, tmp_path / "run", set=TINY | {"total_steps": 1})
    assert run.card.data["counts"] == {"train": 27, "val": 3, "test": 0}
    assert "knn" not in run.card.pretraining["signals"]
    assert '""' in (run.path / "split.csv").read_text()
    assert "Colours are labels" not in run.file(REPORT).read_text()
    begun = command.start(
        flat, "simclr", TINY | {"model.name": "resnet20"}, None, False, tmp_path / "b", lambda _: None
    )
    assert begun.card.data["counts"] == {"train": 27, "val": 3, "test": 0}


def test_folders_that_are_no_classes_can_be_said_to_be_none(data: Path, tmp_path: Path) -> None:
    run = command.start(data, "simclr", TINY | {"model.name": "resnet20"}, None, True, tmp_path / "run", lambda _: None)
    assert json.loads(run.file(CONFIG).read_text())["pretrain"]["unlabelled"] is True


def test_bad_files_are_told_and_left_out_on_demand(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(data, folder)
    (folder / "rows" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"rows/bad\.png"):
        pretrained(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    wishes = TINY | {"model.name": "resnet20", "data.skip_bad": True}
    run = command.start(folder, "simclr", wishes, None, False, tmp_path / "run", lambda _: None)
    assert [name for name, _ in run.card.data["skipped"]] == ["rows/bad.png"]


def test_stopped_and_resumed_it_is_sealed_with_the_same_weights(run: Run, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    wishes = TINY | {"model.name": "resnet20", "data.workers": 0, "batch": 16, "device": "cpu"}
    command.start(data, "simclr", wishes, None, False, path, lambda _: None)
    import os
    import signal

    stopper = Recorder(on_step=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None)
    with pytest.raises(Interrupted):
        resume.finish(path, stopper)
    assert found(path / "checkpoints")
    again = resight.resume(path)
    assert again.card.files[WEIGHTS] == run.card.files[WEIGHTS]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "bce"}, "no label is looked at"),
        ({"memory_gb": 8.0}, "has no effect"),
        ({"data.geometry": "tiles"}, "resight pretrain"),
        ({"balance.sampling": "sqrt"}, "no label is looked at"),
        ({"micro_batch": 8}, "micro_batch has no effect"),
        ({"pretrain.center": 0.5}, "no effect with --method simclr"),
        ({"pretrain.stop_gradient": False}, "no effect with --method simclr"),
        ({"pretrain.nothing": 1}, "there is no option"),
        ({"augment.crop": "shift"}, "random crops"),
    ],
)
def test_wishes_without_an_effect_are_refused(changes: dict[str, Any], said: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        pretrained(data, tmp_path / "run", set=TINY | changes)
    assert not (tmp_path / "run").exists()


def test_a_test_part_is_kept_from_unlabelled_pictures_where_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    wishes = TINY | {"model.name": "resnet20", "data.test_fraction": 0.3}
    kept = command.start(data, "simclr", wishes, None, True, tmp_path / "run", lambda _: None)
    assert len(load(data, split_csv=kept.file(SPLIT), unlabelled=True).part("test")) == 18


def test_crops_and_epochs_exclude_each_other(data: Path, tmp_path: Path) -> None:
    without = {name: value for name, value in TINY.items() if name != "total_steps"}
    with pytest.raises(UsageError, match="exclude each other"):
        pretrained(data, tmp_path / "run", crops=32, set=without | {"epochs": 5.0})


def test_colours_of_grey_pictures_are_refused_by_train_too(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"augment\.hue has no effect: pictures have 1 channels"):
        resight.train(data, channels=1, model="resnet8", out=tmp_path / "run", set={"augment.hue": 0.2})


def test_wishes_about_pretraining_are_refused_elsewhere(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belongs to resight pretrain"):
        resight.train(data, out=tmp_path / "run", set={"pretrain.method": "simclr"})


def test_too_few_pictures_and_unknown_methods_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="methods: simclr, byol, fastsiam, dino"):
        pretrained(data, tmp_path / "run", method="moco")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((data / "rows").iterdir())[:8]:
        shutil.copy(path, few / path.name)
    with pytest.raises(DataError, match="too few"):
        pretrained(few, tmp_path / "run")
    with pytest.raises(UsageError, match="exclude each other"):
        pretrained(data, tmp_path / "run", crops=100, epochs=1)


def test_cards_of_before_still_open_and_new_ones_must_be_sound(run: Run) -> None:
    plain = json.loads(run.file(CARD).read_text())
    before = {k: v for k, v in plain.items() if k != "pretraining"} | {"task": "single", "classes": ["a", "b"]}
    assert RunCard.from_json(json.dumps(before).encode(), Path("run.json")).pretraining == {}
    for wrong in ({"classes": ["a"]}, {"pretraining": {}}, {"task": "single"}):
        with pytest.raises(RunError, match="impossible value"):
            RunCard.from_json(json.dumps(plain | wrong).encode(), Path("run.json"))
