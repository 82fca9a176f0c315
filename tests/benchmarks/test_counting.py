"""What benchmarks count rather than clock: updates at each size, hours from rates, FLOPs of a step, growth's rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pydantic")

import growth
import steps
import time_to_accuracy
from resight.models import count_macs, create
from resight.recipes import TrainConfig
from resight.training.phases import size_at


def config(**changes: Any) -> TrainConfig:
    plain = TrainConfig(total_steps=100).model_dump()
    return TrainConfig.model_validate(
        plain | {"data": {"image_size": 32, "train_size": 32, "start_scale": 0.75, **changes}}
    )


def finished(correct: int, **changes: Any) -> time_to_accuracy.Finished:
    found = config(**changes)
    run: Any = SimpleNamespace(
        card=SimpleNamespace(data={"counts": {"train": 900, "val": 100, "test": 1000}}), path="run"
    )
    return time_to_accuracy.Finished(run, found, correct, 1000, {24: 30, 32: 70}, validations=5)


def rates(update: dict[str, float]) -> dict[str, Any]:
    return {"update": update, "compiling": 7.0, "validation": 0.02, "decoding": 0.001}


def test_updates_are_counted_at_the_size_that_the_loader_gives_them() -> None:
    found = time_to_accuracy.updates(config(), 60)
    assert sum(found.values()) == 60
    assert found == {size: sum(size_at(config(), step) == size for step in range(60)) for size in found}
    assert min(found) == 24
    assert time_to_accuracy.updates(config(start_scale=1), 100) == {32: 100}


def test_hours_are_updates_compiling_validation_and_decoding() -> None:
    seconds = 30 * 2.0 + 70 * 4.0 + 7.0 + 5 * 100 * 0.02 + 2 * 1000 * 0.001
    assert time_to_accuracy.hours(finished(900), rates({"24": 2.0, "32": 4.0})) == pytest.approx(seconds / 3600)


@pytest.mark.parametrize(("ours", "above"), [([909, 912, 915], True), ([905, 909, 910], False)])
def test_the_mean_over_seeds_must_reach_the_line(ours: list[int], above: bool) -> None:
    line, measured = finished(910), {"ours": [rates({"24": 1.0, "32": 2.0})], "line": [rates({"24": 9.0, "32": 40.0})]}
    time, accuracy = time_to_accuracy.rows("x", line, [finished(count) for count in ours], measured, 10)
    assert time["ratio"]["median"] > 10
    assert (accuracy["ratio"]["median"] >= accuracy["target"]) is above
    assert ("at or above the line" in time["equal"]) is above


def test_seeds_of_another_configuration_are_refused() -> None:
    time_to_accuracy.same_configuration([finished(1), finished(2)])
    with pytest.raises(SystemExit, match="differs from run in data"):
        time_to_accuracy.same_configuration([finished(1), finished(2, crop_ratio=0.9)])


def test_training_flops_count_the_first_convolution_once_less() -> None:
    net = create("resnet20", num_classes=10)
    first = 32 * 32 * 16 * 3 * 9
    assert steps.training_flops("resnet20", 32, 10) == 2 * (3 * count_macs(net, 32) - first)


def test_growth_is_not_hidden_by_what_a_start_costs() -> None:
    """Three seconds of start, then 2 ms a picture up to 4×, and 4 ms for each one beyond; memory doubles."""
    found = {f"{count:,} classes": [{"seconds": 9.0, "pictures": 100, "memory": 500.0}] for count in growth.CLASSES}
    for cache in ("with cache", "no cache"):
        for times in growth.FACTORS:
            count, beyond = 640 * times, max(0, 640 * times - 2560)
            slower = {"seconds": 3 + 0.002 * (count + beyond), "memory": 500.0 * (2 if beyond else 1)}
            found[f"{count:,} pictures, {cache}"] = [slower | {"pictures": count}]
    rows = {(row["case"], *row["sides"]): row for row in growth.rows(found, 640)}
    assert len(rows) == 10
    time = rows["time of each further picture, no cache", "2,560 to 10,240", "640 to 2,560"]
    assert time["ratio"]["median"] == pytest.approx(0.5)
    assert rows["peak memory, no cache", "10,240 pictures", "640 pictures"]["ratio"]["median"] == 0.5
    assert rows["peak memory, with cache", "10,240 pictures", "640 pictures"]["target"] is None
    assert rows["time of each of 5,120 pictures", "100 classes", "10 classes"]["ratio"]["median"] == 1
