"""Order, limits, front and words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from PIL import Image

from resight.advising.candidates import SMALL_DEPTH, models_for, points, sizes_for
from resight.advising.choose import Advice, Limits, choose, front, limited, order
from resight.advising.plot import plot
from resight.advising.reasons import reasons
from resight.commands.advise import _BYTES, _TIMES, quantity
from resight.errors import UsageError

from .made_up import facts, option

OPTIONS = order(
    [
        option(model, size, seconds * size**2 / 1000, 0.001 * size**2 / 500 * (1 + seconds / 200))
        for (model, seconds), size in itertools.product(
            {"resnet18": 60, "resnet34": 110, "resnet50": 150}.items(), (64, 224)
        )
    ]
)  # fmt: skip


def test_more_pixels_and_more_depth_come_first_and_pixels_that_are_not_there_bring_nothing() -> None:
    many = facts(train=50_000)
    assert points("resnet50", 224, many, False) > points("resnet34", 224, many, False)
    assert points("resnet18", 128, many, False) > points("resnet34", 64, many, False)
    assert points("resnet18", 224, facts(train=50_000, side=96), False) == points(
        "resnet18", 96, facts(train=50_000, side=96), False
    )
    assert points("resnet18", 96, many, True) > points("resnet50", 224, many, False)


def test_few_pictures_from_scratch_make_depth_worthless_but_not_with_weights() -> None:
    assert points("resnet50", 96, facts(train=900), False) == points("resnet18", 96, facts(train=900), False)
    assert points("resnet50", 96, facts(train=900), True) > points("resnet18", 96, facts(train=900), True)


def test_sizes_and_networks_follow_the_pictures_and_the_budget() -> None:
    assert sizes_for(facts(side=32), None) == (32,)
    assert sizes_for(facts(side=100), None) == (64, 96)
    assert sizes_for(facts(side=400), 299) == (64, 96, 128, 160, 224, 299)
    assert "resnet101" not in models_for(facts(), 3600)
    assert "resnet101" in models_for(facts(), 8 * 3600)
    assert set(models_for(facts(side=28), 8 * 3600)) == set(SMALL_DEPTH)


def test_the_front_is_what_no_other_option_equals_or_beats_in_everything() -> None:
    found = set(front(OPTIONS))
    for i, mine in enumerate(OPTIONS):
        beaten = any(
            other.candidate.points >= mine.candidate.points
            and other.seconds <= mine.seconds
            and other.latency <= mine.latency
            and (other.candidate.points, other.seconds, other.latency)
            != (mine.candidate.points, mine.seconds, mine.latency)
            for other in OPTIONS
        )
        assert (i in found) == (not beaten)


def test_limits_leave_out_and_the_best_of_the_rest_is_chosen() -> None:
    limits = Limits(budget=600, latency=0.05)
    options = [limited(o, limits) for o in OPTIONS]
    chosen = options[choose(options, None)]
    assert chosen.seconds <= 600
    assert chosen.latency <= 0.05
    fits = [o for o in OPTIONS if o.seconds <= 600 and o.latency <= 0.05]
    assert chosen.candidate.points == max(o.candidate.points for o in fits)


def test_without_a_budget_an_hour_is_assumed_unless_all_take_longer() -> None:
    assert OPTIONS[choose(OPTIONS, 3600)].seconds <= 3600
    least = min(range(len(OPTIONS)), key=lambda i: OPTIONS[i].seconds)
    assert choose(OPTIONS, 1) == least


def test_when_nothing_fits_the_limit_and_the_nearest_candidate_are_named() -> None:
    limits = Limits(budget=600, size=5 * 10**5)
    options = [limited(o, limits) for o in OPTIONS]
    with pytest.raises(UsageError, match=r"resnet\d+ at 64 px.* breaks --size \(2 times"):
        choose(options, None)
    least = min(o.memory for o in OPTIONS)
    with pytest.raises(UsageError, match=r"breaks --memory \(2 times") as refused:
        choose([limited(o, Limits(memory=least // 2)) for o in OPTIONS], None)
    assert "of memory" in str(refused.value.hint)
    options = [limited(o, Limits(memory=least)) for o in OPTIONS]
    assert options[choose(options, None)].memory == least


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("20ms", _TIMES, 0.02),
        ("1.5h", _TIMES, 5400),
        ("30m", _TIMES, 1800),
        ("25MB", _BYTES, 25e6),
        ("2MiB", _BYTES, 2**21),
    ],
)
def test_quantities(text: str, units: dict[str, float], value: float) -> None:
    assert quantity("budget", text, units) == pytest.approx(value)


@pytest.mark.parametrize("text", ["soon", "-3s", "0", "5 apples", "25MB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--latency"):
        quantity("latency", text, _TIMES)


def advice(limits: Limits) -> Advice:
    data = facts(ratio=20.0)
    options = [*OPTIONS, option("resnet34", 224, 900, 0.03, weights="resnet34.tv_in1k", download=87_000_000)]
    ordered = order([limited(o, limits) for o in options])
    chosen = choose(ordered, 3600)
    rest = next(i for i, o in enumerate(ordered) if not o.candidate.download and not o.exceeds and o.seconds < 3600)
    why = tuple(reasons(data, limits, ordered, chosen, rest))
    return Advice(
        data, limits, ordered, front(ordered), chosen, rest, why, "resight train data",
        {"processor": "a processor", "cores": "2", "threads": "2"}, 12.0,
    )  # fmt: skip


def test_the_text_says_what_why_and_how() -> None:
    shown = advice(Limits(budget=1000)).to_text()
    for words in (
        "resnet34 at 224 px, from resnet34.tv_in1k",
        "must be downloaded first, 87.0 MB",
        "Without one: resnet",
        "is not predicted",
        "20 times the pictures of the smallest",
        "over --budget",
        "to train it:  resight train data",
    ):
        assert words in shown
    json.dumps(advice(Limits()).to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["advice.png", "advice.svg"])
def test_the_plot_is_a_picture(tmp_path: Path, name: str) -> None:
    plot(advice(Limits(budget=1000, latency=0.05)), tmp_path / name)
    if name.endswith("png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 800
    else:
        assert "<svg" in (tmp_path / name).read_text()
