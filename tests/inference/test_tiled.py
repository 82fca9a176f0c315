"""Pictures that are cut into tiles: one answer each, whatever the groups of tiles, threads and backend."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.errors import RunError, UsageError
from resight.evaluation import softmax
from resight.inference import Predictor
from resight.inference.pooling import Pool, shares
from resight.inference.unknown import NEIGHBOURS, Reference, describe
from resight.runs import Run

from .tiled import expected, photo, tiled_graph, tiled_run
from .tiny import CLASSES, TEMPERATURE, make_run

SIZES = ((40, 64), (16, 16), (9, 30), (5, 5), (33, 100), (64, 17))


PHOTOS = [photo(seed, *size) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiled_run(tmp_path_factory.mktemp("tiled") / "run")


@pytest.mark.parametrize("group", [1, 3, 1000])
@pytest.mark.parametrize("size", [1.0, 500.0])
def test_pooling_is_one_softmax_whatever_the_groups(group: int, size: float) -> None:
    random = np.random.default_rng(3)
    attention, values = size * random.normal(size=50).astype(np.float32), random.normal(size=(50, 4)).astype("f4")
    attention[20] -= 5000  # tiles that count for nothing, also at the beginning
    attention[0] = -5000
    pool = Pool()
    for start in range(0, 50, group):
        pool.add(attention[start : start + group], values[start : start + group])
    weights = softmax(attention[None].astype(np.float64))[0]
    np.testing.assert_allclose(pool.result()[0], weights @ values.astype(np.float64), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(shares([attention[:7], attention[7:]], pool), weights, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (1, 8), (3, 8)])
def test_answers_are_the_pooled_tiles(run: Run, backend: str, threads: int, batch: int) -> None:
    predictor = Predictor(run, backend=backend, threads=threads, batch=batch)
    found = list(predictor.predict(PHOTOS, top=3))
    assert [answer.source for answer in found] == [f"#{k}" for k in range(len(PHOTOS))]
    for answer, picture in zip(found, PHOTOS, strict=True):
        logits, embedding, _ = expected(picture)
        chances = softmax(logits[None] / TEMPERATURE)[0]
        ours = dict(answer.top)
        np.testing.assert_allclose([ours[name] for name in CLASSES], chances, atol=1e-5)
        np.testing.assert_allclose(predictor.tiled.answer(picture, ("embedding",))[0], embedding, atol=1e-5)


def test_files_answer_as_pixels_and_bad_ones_are_named(run: Run, tmp_path: Path) -> None:
    sources = []
    for number, pixels in enumerate(PHOTOS):
        Image.fromarray(pixels).save(path := tmp_path / f"{number}.png")
        sources.append(path)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    predictor = Predictor(run, threads=2)
    answers = list(predictor.predict([*sources[:3], tmp_path / "bad.png", *sources[3:]]))
    assert answers.pop(3).error
    assert [a.probability for a in answers] == [a.probability for a in predictor.predict(PHOTOS)]
    assert [a.probability for a in predictor.predict(sources[:1])] == [answers[0].probability]  # alone: another way


def test_attention_finds_the_patch(run: Run) -> None:
    """A red object of 8 px is what the answer for a large picture is about: the mean of all tiles would say other."""
    picture = photo(0, 200, 300)
    (answer,) = Predictor(run).predict([picture])
    assert answer.label == "red"
    assert expected(picture)[2].max() > 10 / 700


def test_a_job_goes_on_where_it_was(run: Run) -> None:
    predictor = Predictor(run, threads=2)
    whole = [a.probability for a in predictor.predict(PHOTOS)]
    for done in range(len(PHOTOS) + 1):
        start = predictor.restart(done, len(PHOTOS))
        assert start <= done
        again = [a.probability for a in predictor.predict(PHOTOS, start=start)]
        assert [*whole[:start], *again] == whole


def test_memory_does_not_grow_with_the_picture(run: Run) -> None:
    predictor, peaks = Predictor(run, threads=1), []
    for side in (600, 1800):
        picture = np.zeros((side, side, 3), np.uint8)
        next(iter(predictor.predict([picture])))
        tracemalloc.start()
        next(iter(predictor.predict([picture])))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    boxes = 4 * 8 * (1800 // 8) ** 2  # which is all that grows: where the tiles lie
    assert peaks[1] - peaks[0] < 3 * boxes


def test_unknown_is_told_by_the_pooled_embedding(tmp_path: Path) -> None:
    plain = Predictor(tiled_run(tmp_path / "plain"), threads=1)
    known = np.stack([plain.tiled.answer(photo(k, 40, 40), ("embedding",))[0] for k in range(60)])
    reference = Reference.fit(known[:40], np.arange(40) % 3, np.arange(40), [f"{k}" for k in range(40)])
    unknown = describe(reference.scorer(NEIGHBOURS)(known[40:]), 40)
    run = tiled_run(tmp_path / "run", fields={"unknown": unknown}, reference=reference.to_bytes())
    (answer,) = Predictor(run, threads=1).predict([PHOTOS[0]])
    assert answer.score is not None
    score = reference.scorer(NEIGHBOURS)(plain.tiled.answer(PHOTOS[0], ("embedding",))[0][None])[0]
    assert answer.score.value == pytest.approx(float(score))


def test_there_are_no_squares_to_ask_for(run: Run) -> None:
    predictor = Predictor(run)
    with pytest.raises(UsageError, match="cuts pictures into tiles"):
        predictor.ask(np.zeros((1, 8, 8, 3), np.uint8), ("logits",))
    with pytest.raises(UsageError, match="no one square"):
        predictor.square(PHOTOS[0])
    with pytest.raises(UsageError, match="have no features"):
        predictor.tiled.answer(PHOTOS[0], ("features",))


def test_a_graph_without_attention_is_refused(tmp_path: Path) -> None:
    run = tiled_run(tmp_path / "run", model=tiled_graph(attention=False).SerializeToString())
    with pytest.raises(RunError, match="attention"):
        Predictor(run)
    assert make_run(tmp_path / "whole").card.geometry.kind == "crop"
