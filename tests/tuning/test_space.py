"""What is searched lies around the recipe, and a command says a trial exactly."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer

from resight.cli import app
from resight.errors import UsageError
from resight.recipes import RECIPES, Facts, check_effects, override, recipe
from resight.recipes.options import FIELDS, train_command, wishes_of
from resight.tuning.journal import propose
from resight.tuning.space import DIMENSIONS, Dimension, dimensions, wishes_of_trial

SMALL, PHOTOS = Facts(2000, 10, 32), Facts(2000, 10, 300)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("facts", [SMALL, PHOTOS], ids=["small", "photos"])
def test_every_draw_of_every_recipe_is_a_configuration(name: str, facts: Facts) -> None:
    import optuna

    base = recipe(name, facts)
    if base.transfer.rung == "features":
        sizes = [] if facts.small else ["data.image_size"]
        if not sizes:
            with pytest.raises(UsageError, match="nothing is left"):
                dimensions(base, None, small=facts.small)
            return
        assert [d.field for d in dimensions(base, None, small=facts.small)] == sizes
    dims = dimensions(base, None, small=facts.small)
    assert all(d.distribution()._contains(d.distribution().to_internal_repr(d.base)) for d in dims)
    space = {d.field: d.distribution() for d in dims}
    for seed in range(25):
        params = propose(space, [], optuna.study.StudyDirection.MAXIMIZE, seed)
        wishes = wishes_of_trial(dims, params, base)
        config = override(base, wishes)
        check_effects(config, wishes)  # nothing is drawn that another value makes meaningless
        for field, value in wishes.items():
            section, _, last = field.rpartition(".")
            assert getattr(getattr(config, section) if section else config, last) == value


def test_the_recipes_own_values_are_no_wishes() -> None:
    base = recipe("quick", PHOTOS)
    dims = dimensions(base, None, small=False)
    assert wishes_of_trial(dims, {d.field: d.base for d in dims}, base) == {}


def test_groups() -> None:
    small, photos = recipe("quick", SMALL), recipe("quick", PHOTOS)
    assert [d.field for d in dimensions(photos, ["lr", "size"], small=False)] == ["optimizer.lr", "data.image_size"]
    assert "data.image_size" not in {d.field for d in dimensions(small, None, small=True)}
    assert "data.image_size" in {d.field for d in dimensions(photos, None, small=False)}
    assert {d.field for d in dimensions(small, ["augment"], small=True)} == {
        *("augment.shift", "augment.policy", "augment.color")
    }
    fixed = {d.field for d in dimensions(photos, None, small=False, fixed=["optimizer.lr", "augment.color"])}
    assert not fixed & {"optimizer.lr", "augment.color"}
    assert "label_smoothing" not in {d.field for d in dimensions(recipe("strikes-back-a3", PHOTOS), None, small=False)}
    with pytest.raises(UsageError, match="photos only"):
        dimensions(small, ["size"], small=True)
    with pytest.raises(UsageError, match=", ".join(DIMENSIONS)):
        dimensions(small, ["speed"], small=True)
    with pytest.raises(UsageError, match="nothing is left"):
        dimensions(photos, [], small=False)


def test_what_another_option_makes_meaningless_is_not_searched() -> None:
    base = override(recipe("quick", PHOTOS), {"distill.teacher": "runs/a", "distill.weight": 1})
    assert [d.field for d in dimensions(base, ["mixup"], small=False)] == ["augment.mixup"]
    assert "label_smoothing" not in {d.field for d in dimensions(base, None, small=False)}
    with pytest.raises(UsageError, match="--space lr: nothing of it has an effect"):
        dimensions(recipe("features", PHOTOS), ["lr"], small=False)


def test_numbers_are_short_and_stay_inside() -> None:
    rate = Dimension("optimizer.lr", "log", 0.2, 0.025, 1.6)
    assert rate.value(0.123456) == 0.123
    assert rate.value(1.5999) == 1.6
    mixup = Dimension("augment.mixup", "linear", 0.0, 0.0, 0.8, least=0.05)
    assert mixup.value(0.04) == 0.0
    assert Dimension("x", "linear", 0.0, 0.12345, 0.8).value(0.12345) == 0.12345


def test_trained_smaller_than_answered_stays_in_proportion() -> None:
    base = recipe("strikes-back-a3", PHOTOS)
    dims = dimensions(base, ["size"], small=False)
    wishes = wishes_of_trial(dims, {"data.image_size": 288}, base)
    assert wishes == {"data.image_size": 288, "data.train_size": round(160 * 288 / 224)}


@pytest.mark.parametrize(
    "wishes",
    [
        {"optimizer.lr": 0.0371, "augment.policy": "trivial", "data.skip_bad": True, "seed": 3},
        {"model.name": "resnet34", "epochs": 4.5, "batch": 16, "data.workers": 0, "augment.mixup": 0.12},
        {"data.image_size": "96", "augment.flip": "none", "label_smoothing": 1e-05, "device": "cpu"},
    ],
)
def test_a_command_says_the_wishes_exactly(wishes: dict[str, Any]) -> None:
    """Through the real command line: what it would train with is the same configuration."""
    words = shlex.split(train_command("my data/it's", "quick", wishes))
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    given = command.make_context("train", words[2:]).params
    assert str(given["data"]) == "my data/it's"
    settings = dict(pair.split("=", 1) for pair in given["settings"] or [])
    read, name = wishes_of({k: v for k, v in given.items() if k in FIELDS or k == "recipe"}, settings)
    base = recipe("quick", PHOTOS)
    assert name == "quick"
    assert override(base, read) == override(base, wishes)


def test_the_data_are_no_option() -> None:
    with pytest.raises(UsageError, match="data\\.path"):
        wishes_of({}, {"data.path": "elsewhere"})
    with pytest.raises(UsageError, match="no option 'speed'"):
        wishes_of({"speed": 3}, None)
    assert wishes_of({"weights": "none", "skip_bad": False, "lr": None}, None) == ({}, None)
