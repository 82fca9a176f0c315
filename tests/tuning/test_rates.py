"""The learning-rate finder: closed forms, drawn curves with known answers, and real updates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training import tiny

from resight.tuning.rates import SETTLED, Curve, ramp, smooth, sweep

CONSTANT = {"schedule.name": "constant", "schedule.warmup": 0.0, "optimizer.average_epochs": 0.0, "total_steps": 60}


def test_a_ramp_is_geometric() -> None:
    rates = ramp(1e-4, 1.0, 9)
    assert rates[0] == 1e-4
    assert rates[-1] == pytest.approx(1.0)
    assert np.diff(np.log10(rates)) == pytest.approx([0.5] * 8)


def test_smoothing_is_the_weighted_mean_of_all_so_far() -> None:
    losses = np.random.default_rng(0).uniform(1, 3, 40)
    for number, value in enumerate(smooth(list(losses)), start=1):
        weights = 0.9 ** np.arange(number - 1, -1, -1)
        assert value == pytest.approx(float(weights @ losses[:number] / weights.sum()))


def curve(losses: list[float], rates: list[float], ended: str = "highest rate") -> Curve:
    return Curve(tuple(rates), tuple(losses), tuple(losses), ended)


def test_a_valley_is_read() -> None:
    """A cosine between 0.001 and 1: steepest at its middle, lowest at 1; then it rises."""
    rates = ramp(1e-4, 100.0, 121)
    logs = np.log10(rates)
    losses = 2 + np.cos(np.pi * np.clip((logs + 3) / 3, 0, 2))
    found = curve(list(losses), rates)
    assert found.lowest == pytest.approx(1.0)
    assert found.steepest == pytest.approx(10**-1.5, rel=0.1)
    assert not found.open_end


def test_the_suggestion_is_free_of_the_averages_lag() -> None:
    """A loss that falls along a line up to 1 and then rises as steeply: its average turns later."""
    rates = ramp(1e-4, 100.0, 241)
    logs = np.log10(rates)
    losses = 4 + np.abs(logs)
    found = Curve(tuple(rates), tuple(losses), tuple(smooth(list(losses))), "highest rate")
    assert found.lowest is not None
    assert found.suggestion is not None
    assert found.lowest > 1.1
    assert 0.6 < found.suggestion <= 1.0


def test_a_second_fall_is_not_counted() -> None:
    rates = ramp(1e-3, 10.0, 81)
    logs = np.log10(rates)
    losses = 2.5 + np.cos(np.pi * np.clip(logs + 2, 0, 2)) - 5 * np.clip(logs - 0.5, 0, None)
    assert losses.argmin() == 80
    assert curve(list(losses), rates).lowest == pytest.approx(0.1)


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    found = curve([2.3 + 0.01 * n for n in range(50)], ramp(1e-3, 1.0, 50))
    assert found.suggestion is found.lowest is found.steepest is None
    short = curve([2.0] * SETTLED, ramp(1e-3, 1.0, SETTLED))
    assert short.suggestion is None


def test_a_loss_that_still_falls_at_the_end_is_known() -> None:
    assert curve(list(np.linspace(3, 1, 50)), ramp(1e-3, 1.0, 50)).open_end


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "muon"])
def test_updates_are_those_of_training(tmp_path: Path, optimizer: str) -> None:
    """At one rate all along, each loss is that of the loop at that rate; and no file is written."""
    data = tiny.write_patterns(tmp_path / "data")
    changes: dict[str, Any] = {**CONSTANT, "optimizer.name": optimizer, "optimizer.lr": 0.01, "total_steps": 6}
    losses: list[float] = []
    recorder = tiny.Recorder(on_step=lambda _: losses.append(loop.state.loss_sum))
    loop = tiny.start(tmp_path / "loop", data, changes, recorder)
    loop.fit()
    finder = tiny.start(tmp_path / "finder", data, changes)
    before = sorted(path.name for path in (tmp_path / "finder").rglob("*"))
    told: list[int] = []
    found = sweep(finder, [0.01] * 6, lambda done, _: told.append(done))
    assert told == [1, 2, 3, 4, 5, 6]
    assert found.losses == pytest.approx(np.diff([0.0, *losses]) / 8)
    assert sorted(path.name for path in (tmp_path / "finder").rglob("*")) == before


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "muon"])
def test_rates_that_are_far_too_high_end_it(tmp_path: Path, optimizer: str) -> None:
    data = tiny.write_patterns(tmp_path / "data")
    training = tiny.start(tmp_path / "run", data, {**CONSTANT, "optimizer.name": optimizer})
    rates = ramp(1e-4, 1e8, 40)
    found = sweep(training, rates, lambda done, loss: None)
    assert found.ended in ("diverged", "not finite")
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 40
    assert all(map(math.isfinite, found.losses))
