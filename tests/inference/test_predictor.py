from __future__ import annotations

import io
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resight.errors import DataError, RunError, UsageError
from resight.inference import Backend, Predictor, map_ordered, open_backend
from resight.runs import Run
from resight.samples import load

from . import tiny

PICTURES = [tiny.picture(name, seed, side=tiny.SIZE) for seed in range(7) for name in tiny.CLASSES]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def predictor(run: Run) -> Predictor:
    return Predictor(run, threads=2, batch=4)


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_labels_and_top(predictor: Predictor) -> None:
    (found,) = predictor.predict([tiny.picture("green")], top=9)
    assert found.source == "#0"
    assert found.label == "green"
    assert found.error is None
    assert found.top[0] == ("green", found.probability)
    assert sorted(name for name, _ in found.top) == sorted(tiny.CLASSES)
    assert sum(p for _, p in found.top) == pytest.approx(1, abs=1e-6)
    assert [p for _, p in found.top] == sorted((p for _, p in found.top), reverse=True)


def test_ties_go_to_the_earlier_class(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(50)]
    head = np.repeat(np.arange(50)[:, None] % 2, 4, axis=1).astype(np.float32)  # two groups of equals
    run = tiny.make_run(tmp_path / "run", classes=names, model=tiny.graph(50, head=head).SerializeToString())
    (found,) = Predictor(run).predict([tiny.picture("red")], top=50)
    assert [name for name, _ in found.top] == names[1::2] + names[::2]


def test_the_same_picture_gets_the_same_answer_alone_and_in_any_batch(run: Run) -> None:
    pixels = np.stack(PICTURES)
    alone = [Predictor(run, threads=1, batch=1).run_pixels(pixels[i : i + 1]) for i in range(len(pixels))]
    for batch in (1, 2, 5, 16, 64):
        for threads in (1, 2):
            together = Predictor(run, threads=threads, batch=batch).run_pixels(pixels)
            for name in ("probabilities", "logits", "embedding"):
                expected = np.concatenate([getattr(one, name) for one in alone])
                found = getattr(together, name)
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many callers each session was opened for, in order."""
    found = []

    def record(name: str, path: Path, threads: int, *, callers: int, **hashes: str | None) -> Backend:
        found.append(callers)
        return open_backend(name, path, threads, callers=callers, **hashes)

    monkeypatch.setattr("resight.inference.sessions.open_backend", record)
    return found


def test_how_threads_work_is_decided_for_each_call(run: Run, opened: list[int]) -> None:
    """One picture is answered by all threads, also by a Predictor that was not told how many to expect."""
    predictor = Predictor(run, threads=2, batch=4)
    assert opened == [2]
    pixels = np.stack(PICTURES)
    predictor.run_pixels(pixels[:1])
    assert opened == [2, 1]
    assert set(predictor._sessions._open) == {1}  # that of the check alone is closed again
    next(predictor.predict(iter(PICTURES[:3])))
    list(predictor.predict(PICTURES[:1]))
    assert opened == [2, 1]
    together = list(predictor.predict(iter(PICTURES)))
    assert opened == [2, 1, 2]
    alone = [next(predictor.predict([picture])) for picture in PICTURES]
    assert [p.label for p in alone] == [p.label for p in together]
    predictor.run_pixels(pixels)
    assert opened == [2, 1, 2]
    assert set(predictor._sessions._open) == {1, 2}


def test_no_second_session_is_opened_where_none_is_needed(run: Run, opened: list[int]) -> None:
    list(Predictor(run, threads=2).predict(PICTURES))
    list(Predictor(run, threads=2, pictures=1).predict(PICTURES[:1]))
    one = Predictor(run, threads=1)
    one.run_pixels(np.stack(PICTURES[:1]))
    one.run_pixels(np.stack(PICTURES))
    assert opened == [2, 1, 1]


def test_a_few_pixels_are_shared_by_all_threads(run: Run) -> None:
    """Fewer than one batch for each thread must not leave threads idle."""
    predictor, sizes = Predictor(run, threads=2, batch=8), []
    session = predictor._sessions.of(2)
    ask = session.answer

    def answer(pixels: NDArray[np.uint8], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        sizes.append(len(pixels))
        return ask(pixels, outputs)

    session.answer = answer  # type: ignore[method-assign]
    predictor.run_pixels(np.stack(PICTURES[:8]))
    assert sizes == [2, 2, 2, 2]


def test_a_file_that_is_exchanged_later_does_not_change_answers(tmp_path: Path) -> None:
    """Nor in an unfinished Run, whose card has no hash."""
    made = tiny.make_run(tmp_path / "run")
    unfinished = Run(made.path, replace(made.card, status="trained", files={}))
    for run in (made, unfinished):
        (run.path / "model.onnx").write_bytes(tiny.graph().SerializeToString())
        predictor = Predictor(run, threads=2)
        (run.path / "model.onnx").write_bytes(tiny.graph(head=np.zeros((3, 4), np.float32)).SerializeToString())
        assert next(predictor.predict([tiny.picture("green")])).label == "green"


def test_a_predictor_outlives_its_run(tmp_path: Path) -> None:
    predictor = Predictor(tiny.make_run(tmp_path / "run"), threads=2)
    (tmp_path / "run" / "model.onnx").unlink()
    assert next(predictor.predict([tiny.picture("green")])).label == "green"
    assert [p.label for p in predictor.predict([tiny.picture("red")] * 9)] == ["red"] * 9


def test_files_bytes_and_arrays_get_the_same_answer(predictor: Predictor, tmp_path: Path) -> None:
    pixels = tiny.picture("red", side=13)
    path = tiny.write_picture(tmp_path / "a.png", "red")
    path.write_bytes(png(pixels))
    answers = [next(predictor.predict([source])).top for source in (path, png(pixels), pixels)]
    assert answers[0] == answers[1] == answers[2]
    grey = pixels[:, :, 0]
    shapes = [next(predictor.predict([a])).top for a in (grey, grey[:, :, None], np.dstack([grey] * 3))]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_bad_picture_is_an_error_in_its_place(predictor: Predictor, tmp_path: Path) -> None:
    good = [tiny.write_picture(tmp_path / f"{i}.png", tiny.CLASSES[i % 3], i) for i in range(11)]
    good[3].write_bytes(good[3].read_bytes()[:60])
    good[4].write_text("<html>")
    good[8].unlink()
    found = list(predictor.predict([*good, b"", png(tiny.picture("red"))]))
    assert [p.source for p in found] == [*map(str, good), "#11", "#12"]
    assert [i for i, p in enumerate(found) if p.error] == [3, 4, 8, 11]
    assert all(p.label == tiny.CLASSES[i % 3] for i, p in enumerate(found[:11]) if not p.error)
    assert found[12].label == "red"
    assert (found[3].label, found[3].probability, found[3].top) == (None, None, ())
    assert "no such file" in (found[8].error or "")
    assert str(good[3]) not in (found[3].error or "")


def test_only_bad_pictures(predictor: Predictor) -> None:
    assert [p.error is None for p in predictor.predict([b"x"] * 9)] == [False] * 9


def test_sources_are_read_only_a_few_batches_ahead(predictor: Predictor) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for k in count():
            taken += 1
            yield png(PICTURES[k % 21])

    found = predictor.predict(endless())
    first = list(islice(found, 3))
    assert [p.label for p in first] == list(tiny.CLASSES)
    assert taken <= 2 * predictor.threads * predictor.batch
    found.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_thousands_of_pictures_need_no_more_memory_than_some(predictor: Predictor, tmp_path: Path) -> None:
    paths = [tiny.write_picture(tmp_path / f"{k}.png", tiny.CLASSES[k], k) for k in range(3)]

    def peak(number: int) -> int:
        tracemalloc.start()
        try:
            for k, found in enumerate(predictor.predict(paths[k % 3] for k in range(number))):
                assert found.label == tiny.CLASSES[k % 3]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(50)
    few, many = peak(50), peak(3000)
    assert many < 2 * few + 200_000  # the 3000 squares alone are 576 000 bytes, the pictures 900 000


def test_wrong_arguments(predictor: Predictor, run: Run) -> None:
    for top in (0, -1, True):
        with pytest.raises(UsageError, match="top"):
            predictor.predict([], top=top)
    for batch in (0, True, 2.0):
        with pytest.raises(UsageError, match="batch"):
            Predictor(run, batch=batch)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot predict a str"):
        list(predictor.predict(["a.png"]))  # type: ignore[list-item]
    for array in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UsageError, match="expected uint8"):
            list(predictor.predict([array]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="expected pixels"):
        predictor.run_pixels(np.zeros((0, tiny.SIZE, tiny.SIZE, 3), np.uint8))


def test_a_model_that_does_not_fit_the_card_is_refused(tmp_path: Path) -> None:
    for name, model, match in (
        ("classes", tiny.graph(4), "4 classes, its card names 3"),
        ("size", tiny.graph(size=9), "does not fit"),
        ("temperature", tiny.graph(temperature=1), "temperature 2 of the Run's card"),
        ("nan", tiny.graph(head=np.full((3, 4), np.nan, np.float32)), "not finite"),
    ):
        run = tiny.make_run(tmp_path / name, model=model.SerializeToString())
        with pytest.raises(RunError, match=match):
            Predictor(run)


def test_ask_gives_features(predictor: Predictor) -> None:
    features, embedding = predictor.ask(np.stack(PICTURES), ("features", "embedding"))
    assert features.shape == (21, 4, tiny.SIZE, tiny.SIZE)
    np.testing.assert_allclose(features.mean(axis=(2, 3)), embedding, atol=1e-6)


def test_answers_of_a_part(predictor: Predictor, tmp_path: Path) -> None:
    samples = load(tiny.write_folder(tmp_path, each=10))
    found, labels = predictor.answers_of(samples, "test")
    indices = found.indices
    assert [samples.samples[i].split for i in indices] == ["test"] * 3
    assert labels.tolist() == [samples.samples[i].label for i in indices] == [0, 1, 2]
    assert labels.dtype == indices.dtype == np.int64
    for row, index in zip(found.logits, indices, strict=True):
        square = predictor.run.card.geometry.apply(samples.read(samples.samples[index]))
        alone = predictor.run_pixels(square[None])
        np.testing.assert_allclose(row, alone.logits[0] / tiny.TEMPERATURE, atol=1e-6)
        powers = np.exp(row)
        np.testing.assert_allclose(powers / powers.sum(), alone.probabilities[0], atol=1e-6)


def test_answers_of_a_part_names_all_bad_pictures(predictor: Predictor, tmp_path: Path) -> None:
    samples = load(tiny.write_folder(tmp_path, each=10))
    bad = [sample.source for sample in samples.part("test")[:2]]
    for source in bad:
        (tmp_path / source).write_bytes(b"nothing")
    with pytest.raises(DataError, match="2 pictures cannot be read") as caught:
        predictor.answers_of(samples, "test")
    assert all(source in str(caught.value) for source in bad)
    with pytest.raises(DataError, match="classes"):
        predictor.answers_of(replace(samples, classes=tuple(reversed(samples.classes))), "test")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 9))
def test_map_ordered_keeps_order_and_window(number: int, threads: int, window: int) -> None:
    taken, given_back = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for k in range(number):
            taken += 1
            assert taken - given_back <= window + 1
            yield k

    def slow_when_even(k: int) -> int:
        time.sleep(0.0005 * (k % 2 == 0))
        return k * k

    found = []
    for result in map_ordered(slow_when_even, items(), threads=threads, window=window):
        given_back += 1
        found.append(result)
    assert found == [k * k for k in range(number)]


def test_map_ordered_raises_in_place_and_leaves_no_thread() -> None:
    started = []

    def fails_at_three(k: int) -> int:
        started.append(k)
        if k == 3:
            raise ValueError("three")
        return k

    found = map_ordered(fails_at_three, count(), threads=2, window=6)
    assert list(islice(found, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
    assert max(started) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_map_ordered_left_early_starts_nothing_more() -> None:
    started = []

    def slow(k: int) -> int:
        started.append(k)
        time.sleep(0.005)
        return k

    results = map_ordered(slow, range(200), threads=2, window=200)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(started) < 20
