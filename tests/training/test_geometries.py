"""Squash and letterbox the whole way: what is trained on has the shape of what is answered, whatever the picture's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.commands import resume as resuming
from resight.commands.start import start as begin
from resight.explaining.overlay import place
from resight.images import Geometry, decode
from resight.images.geometry import PADDING
from resight.inference import Predictor
from resight.training import reading
from resight.training.loader import TrainLoader

from .tiny import Recorder, load, pattern, tiny_config, write_patterns

KINDS = ("crop", "squash", "letterbox")
ODD = ((1, 500), (500, 1), (3, 47), (90, 31))  # height, width


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patterns, and pictures of one pixel in height or width among those of each class."""
    root = write_patterns(tmp_path_factory.mktemp("odd") / "data", 12, height=40, width=52)
    for folder in root.iterdir():
        for number, (height, width) in enumerate(ODD):
            Image.fromarray(pattern(folder.name, number, height, width)).save(folder / f"odd-{number}.png")
    return root


@pytest.mark.parametrize("kind", ["squash", "letterbox"])
def test_crops_are_cut_from_the_square_that_is_answered(odd: Path, kind: str) -> None:
    changes = {"data.geometry": kind, "augment.crop": "resized", "augment.scale_min": 0.25}
    samples, config = load(odd), tiny_config(odd, changes)
    short = math.ceil(28 / math.sqrt(0.25))
    pictures, seen = reading.train_pictures(samples, config), set()
    for number, sample in enumerate(pictures.samples):
        pixels = decode(samples.path(sample))
        side = min(short, max(pixels.shape[:2]))
        assert np.array_equal(pictures[number], Geometry(kind, side).apply(pixels))  # type: ignore[arg-type]
        seen.add(pixels.shape[:2])
    assert seen & set(ODD)
    assert {p.shape for p in (pictures[i] for i in range(len(pictures)))} <= {(s, s, 3) for s in (52, 47, 56)}
    whole = reading.train_pictures(samples, tiny_config(odd, {**changes, "augment.crop_from": "picture"}))
    assert {whole[i].shape[:2] for i in range(len(whole))} & {(1, 500), (500, 1)}


@pytest.mark.parametrize("crop", ["resized", "shift", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_odd_pictures_are_made(odd: Path, kind: str, crop: str) -> None:
    samples = load(odd)
    config = tiny_config(odd, {"data.geometry": kind, "augment.crop": crop, "batch": 36})
    batch = TrainLoader(reading.train_pictures(samples, config), config).make(0)
    assert tuple(batch.pixels.shape) == (36, 3, 28, 28)
    grey = (batch.pixels == PADDING).all(1).float().mean((1, 2))
    assert bool((grey > 0.9).any()) is (kind == "letterbox")  # pictures of one pixel's height


@pytest.mark.parametrize(("height", "width"), ODD)
@pytest.mark.parametrize("kind", KINDS)
def test_heat_goes_back_to_the_picture_s_own_place(kind: str, height: int, width: int) -> None:
    geometry = Geometry(kind, 32, 32)  # type: ignore[arg-type]
    placed, seen = place(np.ones((4, 4), np.float32), geometry, height, width)
    assert placed.shape == seen.shape == (height, width)
    assert np.allclose(placed[seen], 1, atol=1e-5)
    assert not placed[~seen].any()
    assert seen.all() if kind != "crop" else 0 < seen.mean() < 1


def test_the_end_of_a_long_picture_has_the_heat_of_its_end() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1
    for kind in ("squash", "letterbox"):
        placed, _ = place(heat, Geometry(kind, 32), 1, 500)  # type: ignore[arg-type]
        assert placed[0, 490:].min() > 0.9
        assert placed[0, :300].max() < 0.1


@pytest.mark.parametrize("kind", ["squash", "letterbox"])
def test_validation_and_the_sealed_run_give_one_answer(odd: Path, tmp_path: Path, kind: str) -> None:
    wishes = {"model.name": "resnet20", "model.options.stem": "tiny", "data.geometry": kind, "augment.crop": "resized"}
    wishes |= {"total_steps": 2, "batch": 8, "device": "cpu", "data.workers": 0, "threads": 1, "data.image_size": 28}
    begin(odd, wishes, "quick", tmp_path / "run", lambda _: None)
    run = resuming.finish(tmp_path / "run", Recorder())
    assert run.card.geometry == Geometry(kind, 28)  # type: ignore[arg-type]
    config = resuming._config(run)
    samples = resuming._samples(run, config)
    val = reading.eval_pictures(samples, "val", config)
    by_torch = resuming._logits(resuming._best(run, config, samples), val, config)
    indices = [index for index, sample in enumerate(samples.samples) if sample.split == "val"]
    by_run = Predictor(run, threads=1).answers(samples, indices).logits * run.card.temperature
    assert len(indices) > 2
    np.testing.assert_allclose(by_run, by_torch, atol=2e-4)
