"""``resight import``: trained weights become a Run that answers as the network does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from resight.commands.import_ import cached_import, import_weights
from resight.commands.predict import predict
from resight.errors import RunError, UsageError
from resight.models import create
from resight.runs import Run
from resight.runs.storage import is_cache

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-20 for three classes, whose weights say nothing about classes, sizes or normalisation."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(create("resnet20", num_classes=3).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "imported"
    return import_weights(weights, classes=NAMES, out=out, say=lambda _: None)


def test_the_architecture_is_recognised_and_the_run_is_sealed(run: Run) -> None:
    opened = Run.open(run.path)
    assert opened.card.architecture.name == "resnet20"
    assert opened.classes == NAMES
    assert opened.card.geometry.size == 32
    assert opened.card.geometry.version == 1  # as torchvision answers: JPEGs decoded in full
    assert not opened.card.calibrated
    assert opened.card.parity["max_abs"] <= 1e-4
    assert opened.card.parity["generated"] is True


def test_predict_answers_as_the_network(run: Run, weights: Path) -> None:
    from safetensors.torch import load_file

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    net = create("resnet20", num_classes=3)
    net.load_state_dict(load_file(weights))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy(((pixels / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = dict(zip(NAMES, net.eval()(image).softmax(1)[0].tolist(), strict=True))
    answer = predict(run, pixels, top=3)[0]
    assert dict(answer.top) == pytest.approx(expected, abs=1e-5)


def test_eight_lossless_copies_under_eight_exif_tags_get_identical_probabilities(run: Run, tmp_path: Path) -> None:
    """One array, turned so that each orientation tag turns it back (EXIF 2.3, tag 0x0112)."""
    upright = np.random.default_rng(3).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for tag, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{tag}.png", exif=exif)
    answers = list(predict(run, tmp_path, top=3))
    assert len(answers) == 8
    assert len({answer.top for answer in answers}) == 1


def test_without_class_names_it_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--classes"):
        import_weights(weights, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_number_of_names_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 class names"):
        import_weights(weights, classes=("cat", "dog"), out=tmp_path / "run")


def test_names_from_a_file(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(UsageError, match="twice"):
        import_weights(weights, classes=tmp_path / "names.txt", out=tmp_path / "run")


def test_mean_and_std_belong_together(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--std"):
        import_weights(weights, classes=NAMES, mean=(0.5, 0.5, 0.5), out=tmp_path / "run")


def test_assumptions_are_said(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("resight.commands.import_._seal", lambda *_: None)  # not what is tested here, and slow
    with pytest.raises(RunError, match="not finished"):
        import_weights(weights, classes=NAMES, out=tmp_path / "run", say=said.append)
    assert any("32 px" in line for line in said)
    assert any("ImageNet" in line for line in said)
    assert any("recognised by their shapes as resnet20" in line for line in said)


def test_shared_weights_score_as_their_authors_say(tmp_path: Path) -> None:
    """The CIFAR-10 ResNet-20 on JPEG-compressed pictures: 81 ± 0.5 % (a thousand of them: within the interval)."""
    from zipfile import ZipFile

    from resight.commands.eval import evaluate_run

    shared = Path(os.environ.get("RESIGHT_SHARED_DATA", "missing"))
    if not shared.is_dir():
        pytest.skip("RESIGHT_SHARED_DATA is not set: no trained weights")
    with ZipFile(shared / "data" / "cifar10-jpeg.zip") as archive:
        names = sorted(n for n in archive.namelist() if "/test/" in n and n.endswith(".jpg"))
        archive.extractall(tmp_path, names[::10])
    data = tmp_path / "cifar10-jpeg" / "test"
    file = shared / "weights" / "cifar10-akamaster-resnet20-12fca82f.th"
    run = import_weights(file, classes=data, out=tmp_path / "run", say=lambda _: None)
    estimate = evaluate_run(run, data).evaluation.metrics["accuracy"]
    assert estimate.low < 0.81 < estimate.high


def test_predicting_from_weights_imports_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(2)
    path = tmp_path / "net.pt"
    torch.save({"state_dict": create("resnet20", num_classes=3).state_dict(), "classes": list(NAMES)}, path)
    first = cached_import(str(path))
    assert first.path.parent == tmp_path / "cache" / "runs"
    written = (first.path / "run.json").stat().st_mtime_ns
    second = cached_import(str(path))
    assert second.path == first.path
    assert is_cache(first.path.parent)
    assert (second.path / "run.json").stat().st_mtime_ns == written


def test_a_run_is_not_imported_again(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a Run already"):
        import_weights(run.path, out=tmp_path / "copy")


def test_the_weights_of_a_run_say_what_they_are(run: Run, tmp_path: Path) -> None:
    """A stem that no shape can tell from another survives as metadata of model.safetensors."""
    said: list[str] = []
    torch.manual_seed(3)
    save_file(create("resnet18", num_classes=3, stem="tiny").state_dict(), tmp_path / "tiny.safetensors")
    first = import_weights(
        tmp_path / "tiny.safetensors",
        model="resnet18",
        options={"stem": "tiny"},
        classes=NAMES,
        image_size=64,
        out=tmp_path / "first",
        say=said.append,
    )
    second = import_weights(first.path / "model.safetensors", image_size=64, out=tmp_path / "second", say=said.append)
    assert second.card.architecture == first.card.architecture
    assert second.card.architecture.options == {"stem": "tiny"}
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert predict(first, pixels)[0].top == predict(second, pixels)[0].top


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": create("resnet20", num_classes=3).state_dict(), "classes": ["a", "b", "a"]}, path)
    with pytest.raises(UsageError, match="twice: a"):
        import_weights(path, out=tmp_path / "run")
    with pytest.raises(UsageError, match="twice: b"):
        import_weights(path, classes=("a", "b", "b"), out=tmp_path / "run")


def test_what_is_there_is_never_overwritten(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageError, match="not empty"):
        import_weights(weights, classes=NAMES, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == b"precious"


def test_a_failed_import_leaves_nothing(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("resight.commands.import_._seal", fail)
    with pytest.raises(OSError, match="no space"):
        import_weights(weights, classes=NAMES, out=tmp_path / "run", say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5, 0.5), "std": (0.2, 0.2)},
        {"mean": (0.5,) * 3, "std": (0.2, 0.0, 0.2)},
        {"mean": (float("nan"),) * 3, "std": (0.2,) * 3},
        {"crop_ratio": 0.0},
        {"crop_ratio": 1.5},
        {"image_size": 8},
    ],
)
def test_impossible_numbers_are_refused(weights: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        import_weights(weights, classes=NAMES, out=tmp_path / "run", **wrong)


def test_grey_weights_make_a_grey_run(tmp_path: Path) -> None:
    torch.manual_seed(4)
    save_file(create("resnet20", num_classes=3, in_channels=1).state_dict(), tmp_path / "grey.safetensors")
    run = import_weights(tmp_path / "grey.safetensors", classes=NAMES, out=tmp_path / "run", say=lambda _: None)
    assert run.card.channels == 1
    assert len(run.card.mean) == 1
    assert predict(run, np.zeros((32, 32), np.uint8))[0].error is None
