"""Batches are a function of the step; failures of threads arrive at once."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resight.errors import LoaderFailed, UndecodableImage, UsageError
from resight.recipes.sections import AugmentConfig
from resight.samples import Sample
from resight.training import estimate
from resight.training.augment import apply, draw
from resight.training.loader import Pictures, TrainLoader, eval_batches
from resight.training.phases import size_at, sizes_of
from resight.training.reading import measure

from .tiny import Recorder, again, start, tiny_config


def pictures(count: int = 20, room: int = 10**9) -> tuple[Pictures, list[str]]:
    """Pictures of one level each, and the list of what was read."""
    reads: list[str] = []

    def read(sample: Sample) -> np.ndarray:
        reads.append(sample.source)
        return np.full((28, 28, 3), int(sample.source), np.uint8)

    samples = [Sample(str(n), None, n % 3, "train") for n in range(count)]
    return Pictures(samples, read, room), reads


def loader(count: int = 20, changes: dict[str, Any] | None = None, **ranks: int) -> TrainLoader:
    config = tiny_config(Path("nowhere"), {"batch": 6, "augment.crop": "none"} | (changes or {}))
    return TrainLoader(pictures(count)[0], config, **ranks)


def test_an_epoch_shows_each_picture_at_most_once_and_epochs_differ() -> None:
    made = loader()
    assert made.steps_per_epoch == 3
    epochs = [np.concatenate([made.make(3 * epoch + step).indices for step in range(3)]) for epoch in range(2)]
    for indices in epochs:
        assert len(set(indices.tolist())) == 18
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_batch_holds_the_pictures_and_labels_it_names() -> None:
    batch = loader().make(4)
    assert batch.pixels.shape == (6, 3, 28, 28)
    assert batch.pixels[:, 0, 0, 0].tolist() == batch.indices.tolist()
    assert batch.labels.tolist() == (batch.indices % 3).tolist()
    assert batch.step == 4


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_from_any_step(workers: int) -> None:
    made = loader(changes={"data.workers": workers})
    batches = list(made.batches(2, 9))
    assert [batch.step for batch in batches] == list(range(2, 9))
    for batch in batches:
        assert torch.equal(batch.pixels, made.make(batch.step).pixels)


def test_ranks_share_each_batch_without_overlap() -> None:
    whole = loader().make(5)
    shares = [loader(rank=rank, world=3).make(5) for rank in range(3)]
    assert [len(share.labels) for share in shares] == [2, 2, 2]
    together = np.concatenate([share.indices for share in shares])
    assert sorted(together.tolist()) == sorted(whole.indices.tolist())
    for rank, share in enumerate(shares):
        np.testing.assert_array_equal(share.parameters.crop, whole.parameters.crop[rank::3])


def test_pictures_are_read_once_while_they_fit() -> None:
    kept, reads = pictures(4)
    for _ in range(2):
        for i in range(4):
            assert kept[i][0, 0, 0] == i
    assert reads == ["0", "1", "2", "3"]
    size = 28 * 28 * 3
    kept, reads = pictures(4, room=2 * size + 1)
    for _ in range(2):
        for i in range(4):
            assert kept[i][0, 0, 0] == i
    assert reads == ["0", "1", "2", "3", "2", "3"]


def test_evaluation_keeps_the_order_and_the_last_short_batch() -> None:
    batches = list(eval_batches(pictures(7)[0], np.array([6, 0, 3, 1, 5]), 2))
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[6, 0], [3, 1], [5]]


def test_measured_statistics_are_those_of_the_pixels() -> None:
    mean, std = measure(pictures(20)[0], 3, seed=0)
    levels = np.arange(20) / 255
    np.testing.assert_allclose(mean, levels.mean(), atol=1e-4)
    np.testing.assert_allclose(std, levels.std(), atol=1e-4)
    constant = Pictures([Sample("0", None, 0, "train")], lambda _: np.zeros((28, 28, 1), np.uint8), 0)
    assert measure(constant, 1, seed=0) == ([0.0], [0.001])  # never zero: it is divided by


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────


def broken(error: Exception, workers: int, at: int = 9) -> TrainLoader:
    made = loader(60, changes={"data.workers": workers})
    read = made.pictures._read

    def reads(sample: Sample) -> np.ndarray:
        if int(sample.source) == int(made.make_order[at]):  # type: ignore[attr-defined]
            raise error
        return read(sample)

    from resight.training.loader import shuffled

    made.make_order = shuffled(made.config.seed, 0, 60)  # type: ignore[attr-defined]
    made.pictures._read = reads
    return made


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_in_a_worker_arrives_with_its_step_and_a_remedy(workers: int) -> None:
    batches = broken(ZeroDivisionError("by nothing"), workers).batches(0, 10)
    assert next(batches).step == 0
    with pytest.raises(LoaderFailed, match=r"batch of step 2 failed: ZeroDivisionError: by nothing") as failed:
        next(batches)
    assert "resight resume" in str(failed.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_keeps_its_own_error(workers: int) -> None:
    with pytest.raises(UndecodableImage, match=r"cat\.png: truncated"):
        list(broken(UndecodableImage("truncated", source="cat.png"), workers).batches(0, 10))


def test_no_worker_outlives_the_training(patterns: Path, tmp_path: Path) -> None:
    def die(done: int) -> None:
        if done == 3:
            raise KeyError("stop")

    training = start(tmp_path / "run", patterns, {"data.workers": 3}, Recorder(on_step=die))
    with pytest.raises(KeyError):
        training.fit()
    deadline = time.monotonic() + 10
    while alive := [t.name for t in threading.enumerate() if t.name.startswith("resight-loader")]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.01)


# ── estimates ──────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """A time that passes only by what is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timed(patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A training whose batches take 1 s to make, updates 2 s, and whose whole validation takes 6 s."""
    clock = Clock()
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=clock))
    training = start(tmp_path / "run", patterns)

    def takes(seconds: float, result: Any = None) -> Any:
        def call(*_: Any) -> Any:
            clock.now += seconds
            return result

        return call

    monkeypatch.setattr(training.loader, "make", takes(1.0, training.loader.make(0)))
    monkeypatch.setattr(training, "update", takes(2.0))

    def answers(*_: Any) -> Any:
        clock.now += 6.0
        yield from ()

    monkeypatch.setattr(estimate, "answers", answers)
    return training


def test_a_budget_becomes_steps(timed: Any) -> None:
    # Six steps an epoch: 2 s each and a sixth of the 6 s of validation; 0.9 of the budget; six batches are used up.
    assert estimate.steps_for(timed, 100.0) == int((90 - 6 * 3) / (2 + 6 / 6))
    with pytest.raises(UsageError, match="too short"):
        estimate.steps_for(timed, 15.0)


def test_slow_reading_is_counted_once(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = estimate.time.perf_counter
    batch = timed.loader.make(0)

    def slow(_: int) -> Any:
        clock.now += 10.0
        return batch

    monkeypatch.setattr(timed.loader, "make", slow)
    # All six batches of an epoch were made while measuring: from there on pictures come from memory.
    assert estimate.steps_for(timed, 100.0) == int((90 - 6 * 12) / 3)
    # In an epoch of ten, four are left: the first epoch waits 10 − 2 s for each.
    monkeypatch.setattr(timed.loader, "steps_per_epoch", 10)
    assert estimate.steps_for(timed, 200.0) == int((180 - 7 * 12 - 3 * 8) / (2 + 6 / 10))


def test_a_budget_averages_over_the_sizes_that_pictures_will_have(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = estimate.time.perf_counter
    data = timed.config.data
    data.start_scale, data.train_size, data.grow_until, timed.config.total_steps = 0.9, 28, 0.5, 1000
    asked: list[int] = []

    def update(_: Any) -> None:
        clock.now += 1.0 if size_at(timed.config, asked[-1]) == 24 else 3.0

    make = timed.loader.make
    monkeypatch.setattr(timed.loader, "make", lambda step: asked.append(step) or make(step))
    monkeypatch.setattr(timed, "update", update)
    # Half of the steps take 1 s, the others 3 s; measured by three batches, and by six at the last size.
    assert estimate.steps_for(timed, 100.0) == int((90 - 3 * 2 - 6 * 4) / (2 + 6 / 6))


def test_resumed_training_builds_the_same_batches(patterns: Path, tmp_path: Path) -> None:
    first = start(tmp_path / "run", patterns)
    first.save()
    second = again(tmp_path / "run", patterns)
    for step in (0, 5, 11):
        ours, theirs = first.loader.make(step), second.loader.make(step)
        assert torch.equal(ours.pixels, theirs.pixels)
        assert ours.indices.tolist() == theirs.indices.tolist()


# ── sizes that grow ────────────────────────────────────────────────────────────────────────────────────────────


def sizes(**changes: Any) -> list[int]:
    config = tiny_config(Path("nowhere"), {"total_steps": 100} | {f"data.{k}": v for k, v in changes.items()})
    return [size_at(config, step) for step in range(100)]


def test_sizes_grow_in_equal_stages_and_end_at_the_training_size() -> None:
    found = sizes(start_scale=0.5, train_size=224, image_size=224, grow_until=0.8)
    assert found == sorted(found)
    assert sorted(set(found)) == [112, 140, 168, 196, 224]
    assert [found.count(side) for side in (112, 140, 168, 196)] == [20] * 4
    assert found[80:] == [224] * 20


@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 10, 1000])
@pytest.mark.parametrize("until", [0.01, 0.5, 0.95, 0.999])
def test_sizes_never_fall_and_the_last_update_has_the_training_size(total: int, until: float) -> None:
    data = {"data.start_scale": 0.5, "data.train_size": 40, "data.image_size": 40, "data.grow_until": until}
    config = tiny_config(Path("nowhere"), data | {"total_steps": total})
    found = [size_at(config, step) for step in range(total)]
    assert found == sorted(found)
    assert found[-1] == 40
    if total >= 1000 and until > 0.1:
        assert sorted(set(found)) == sizes_of(config) == [20, 24, 28, 32, 36, 40]
    assert all(size == 40 for size in found[math.ceil(until * total) :])


@pytest.mark.parametrize(
    ("last", "scale", "expected"),
    [
        (32, 0.5, [16, 20, 24, 28, 32]),
        (28, 0.25, [16, 20, 24, 28]),
        (30, 0.99, [28, 30]),
        (224, 0.6, [132, 168, 196, 224]),
    ],
)
def test_sizes_are_not_closer_than_half_a_stage(last: int, scale: float, expected: list[int]) -> None:
    config = tiny_config(Path("nowhere"), {"data.start_scale": scale, "data.train_size": last, "data.image_size": last})
    assert sizes_of(config) == expected


def test_without_growth_the_size_is_always_the_same() -> None:
    assert set(sizes(start_scale=1, train_size=32)) == {32}


def test_random_crops_are_cut_at_the_size_of_their_step() -> None:
    changes = {"augment.crop": "resized", "data.start_scale": 0.75, "data.train_size": 28, "total_steps": 10}
    made = loader(changes=changes)
    assert [made.make(step).pixels.shape[-1] for step in (0, 4, 9)] == [20, 24, 28]


def test_squares_are_shrunk_for_the_network_with_antialiasing(tmp_path: Path, patterns: Path) -> None:
    training = start(
        tmp_path / "run", patterns, {"data.start_scale": 0.75, "data.train_size": 28, "augment.crop": "none"}
    )
    batch = training.loader.make(0)
    assert batch.pixels.shape[-1] == 28
    seen: list[torch.Tensor] = []
    training.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training.objective(batch)
    flipped = apply(training.config.augment, batch.pixels, batch.parameters)
    own = [
        np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).resize((20, 20), Image.Resampling.BILINEAR))
        for p in flipped
    ]
    expected = training.objective.normalize(torch.from_numpy(np.stack(own)).permute(0, 3, 1, 2))
    assert seen[0].shape == (8, 3, 20, 20)
    assert (seen[0] - expected).abs().max() < 1.01 / 255 / 0.25  # rounding: one level of 255


def test_alternating_flips_show_the_other_side_in_every_other_epoch() -> None:
    indices = np.arange(400)
    epochs = [draw(AugmentConfig(flip="alternate"), 7, epoch, indices).flip for epoch in range(4)]
    assert 150 < epochs[0].sum() < 250
    np.testing.assert_array_equal(epochs[1], ~epochs[0])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    np.testing.assert_array_equal(epochs[3], ~epochs[0])
    assert not draw(AugmentConfig(flip="none"), 7, 0, indices).flip.any()
