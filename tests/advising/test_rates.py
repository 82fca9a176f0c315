"""Seconds and bytes of a whole training, against sums over every single step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from resight.advising.plan import fitting
from resight.advising.rates import OVERHEAD, at, at_rate, memory, parts, step_seconds
from resight.recipes import TrainConfig, override
from resight.training.phases import size_at
from resight.transfer.features import most_pictures

from .made_up import BASICS, READ, WORK, net


def config(**changes: object) -> TrainConfig:
    plain = {"data.image_size": 64, "data.train_size": 64, "data.start_scale": 0.5, "batch": 32, "total_steps": 310}
    return override(TrainConfig(device="cpu", threads=2), plain | changes)


def test_between_measured_sides_costs_are_linear_in_pixels_and_in_proportion_beyond() -> None:
    points = {32: 1.0, 64: 5.0}
    assert at(points, 32) == 1
    assert at(points, 64) == 5
    assert at(points, 48) == pytest.approx(1 + 4 * (48**2 - 32**2) / (64**2 - 32**2))
    assert at(points, 128) == pytest.approx(20)
    assert at(points, 16) == pytest.approx(0.25)
    assert at_rate({32: 1.0, 64: 0.2}, 128) == pytest.approx(1 / 20)


def test_updates_are_the_sum_over_all_steps_of_their_own_size() -> None:
    asked, rates = config(), net()
    per_epoch = WORK.train // asked.batch
    slow = sum(
        step_seconds(asked, rates, WORK, READ.first if step < per_epoch else READ.again, size_at(asked, step))
        for step in range(asked.total_steps)
    )
    assert parts(asked, rates, READ, BASICS, WORK)["updates"] == pytest.approx(slow, rel=0.01)


def test_every_part_is_counted_once() -> None:
    asked, rates = config(), net()
    found = parts(asked, rates, READ, BASICS, WORK)
    epochs = math.ceil(310 / 31)
    assert found["start"] == 10
    assert found["check"] == pytest.approx(1.2)
    assert found["statistics"] == pytest.approx(1000 * 0.01 / 2)
    assert found["validation"] == pytest.approx(100 * (epochs * 0.002 + 0.008))
    assert found["checkpoints"] == pytest.approx((epochs + 1) * 0.2)
    torch_answers = 100 * (0.002 + 0.008) + 100 * (0.002 + 0.008 + 0.01)
    graph_answers = (2 * 100 + 100 + 1000) * (0.01 + 0.008 / 2)
    assert found["sealing"] == pytest.approx(1.5 + torch_answers + graph_answers + 0.5 + 0.1)


def test_the_probe_costs_the_pictures_that_it_looks_at() -> None:
    asked = config(**{"transfer.rung": "lpft"})
    graph, answer = 1 / net().many[64], net().answer[64]
    assert parts(asked, net(), READ, BASICS, WORK)["features"] == pytest.approx(2100 * graph + 100 * answer)
    many, most = replace(WORK, train=10**7), most_pictures(64, 2)
    assert parts(asked, net(), READ, BASICS, many)["features"] == pytest.approx((2 * most + 100) * graph + 100 * answer)


def test_folds_of_a_small_set_cost_its_updates_once_more_for_each_but_one() -> None:
    asked = config(**{"transfer.rung": "lpft", "transfer.folds": 3})
    few, read = replace(WORK, train=290, val=29), replace(READ, first=READ.again)
    found = parts(asked, net(), read, BASICS, few)
    assert found["folds"] > 0
    assert found["folds"] == pytest.approx(2 * found["updates"])
    assert parts(asked, net(), read, BASICS, replace(few, val=30))["folds"] == 0
    assert parts(asked, net(), read, BASICS, replace(few, train=1000))["folds"] == 0


@pytest.mark.parametrize(
    ("threads", "workers", "read", "expected"),
    [
        (2, 2, 0.0, 0.05 + 32 * 0.005),  # nothing to read: the update itself
        (1, 1, 0.1, 32 * 0.1),  # one thread that reads slowly is waited for
        (2, 2, 0.004, (2 * (0.05 + 32 * 0.005) + 32 * 0.004) / 2),  # all share two cores
        (2, 0, 0.004, 0.05 + 32 * 0.005 + 32 * 0.004),  # no threads: one after the other
    ],
)
def test_a_step_takes_as_long_as_what_is_short(threads: int, workers: int, read: float, expected: float) -> None:
    asked = config(**{"data.workers": workers, "threads": threads})
    work = WORK.__class__(**WORK.__dict__ | {"threads": threads})
    assert step_seconds(asked, net(), work, read, 64) == pytest.approx(expected)


def test_a_budget_gives_the_most_steps_that_fit() -> None:
    def seconds(steps: int) -> float:
        return 10 + 0.5 * steps

    for most in (12, 35, 60, 100, 1000):
        allowed = range(50, 401)  # half to four times of 100
        expected = max((n for n in allowed if seconds(n) <= most), default=50)
        assert fitting(seconds, 100, most) == expected


def test_memory_grows_with_activations_pictures_and_weights() -> None:
    base = memory(config(), net(), READ, BASICS, WORK)
    larger = memory(config(batch=64), net(), READ, BASICS, WORK)
    assert larger - base == pytest.approx(OVERHEAD * 32 * 4 * 1e6, rel=0.01)
    assert memory(config(micro_batch=16), net(), READ, BASICS, WORK) < base
    assert memory(config(), net(weights=10**8, saved=3 * 10**8), READ, BASICS, WORK) > base + 10**8
    assert memory(config(), net(gpu={64: 5e9}), READ, BASICS, WORK) == 5_000_000_000
