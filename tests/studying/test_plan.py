"""What a depth study consists of, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resight.errors import RunError, UsageError
from resight.models import spec_of
from resight.recipes import TrainConfig, override
from resight.studying.plan import (
    ABLATIONS,
    KINDS,
    PLAN,
    Asked,
    DepthStudy,
    check_asked,
    check_place,
    is_depth_study,
    read_study,
)


def asked(**changes: Any) -> Asked:
    given = {"depths": (20, 56), "seeds": 1, "end_seeds": 0, "ablate": ()} | changes
    return Asked(data="d", recipe="he2015-cifar", wishes={"batch": 8}, pictures=0, fingerprint="f", **given)


def test_one_seed_of_everything_comes_first() -> None:
    members = asked(depths=(20, 32, 56), end_seeds=3, ablate=("shortcut-B",)).members()
    assert [member.name for member in members[:4]] == [
        "plain-20-seed0",
        "residual-20-seed0",
        "shortcut-B-20-seed0",
        "plain-32-seed0",
    ]
    assert {member.depth for member in members[9:]} == {20, 56}
    assert len(members) == 3 * (3 + 2 + 2) == len({member.name for member in members})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_differs_from_residual_nets_in_what_it_says_alone(kind: str) -> None:
    """Also: every field is one of the configuration, every model exists at every depth of the family."""
    member = next(m for m in asked(ablate=tuple(ABLATIONS)).members() if m.kind == kind)
    config = override(TrainConfig(), member.wishes)
    spec, base = spec_of(config.model.name, **config.model.options), spec_of("resnet20")
    differs = {name for name in vars(base) if getattr(spec, name) != getattr(base, name)}
    expected = {
        "plain": {"shortcut"},
        "residual": set(),
        "shortcut-B": {"shortcut"},
        "shortcut-D": {"shortcut"},
        "zero-gamma": set(),
        "no-batchnorm": {"norm"},
        "plain-no-batchnorm": {"shortcut", "norm"},
        "preact": {"preactivation"},
        "stochastic-depth": {"stochastic_depth"},
    }
    assert differs == expected[kind]
    assert bool(member.wishes.get("model.zero_gamma")) is (kind == "zero-gamma")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (20,)}, "two or more"),
        ({"depths": (56, 20)}, "rising"),
        ({"depths": (20, 57)}, "no ResNet of the CIFAR type with 57"),
        ({"ablate": ("shortcut-A",)}, "no effect: every study trains it, as 'residual'"),
        ({"ablate": ("no-shortcut",)}, "as 'plain'"),
        ({"ablate": ("dropout",)}, "there is no ablation 'dropout'"),
        ({"ablate": ("preact", "preact")}, "twice"),
        ({"seeds": 3, "end_seeds": 3}, "--end-seeds 3 has no effect"),
        ({"seeds": 0}, "expected 1 or more"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"depths": (20, 56), "ablate": (), "seeds": 1, "end_seeds": 0} | changes
    with pytest.raises(UsageError, match=message):
        check_asked(**given)


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = DepthStudy(tmp_path, asked(ablate=("preact",)), {"plain-20-seed0": "nan"}, {"nets": []})
    assert not is_depth_study(tmp_path)
    study.write()
    assert is_depth_study(tmp_path)
    assert read_study(tmp_path) == study


def test_a_study_of_before_the_papers_warm_up_goes_on_without_it(tmp_path: Path) -> None:
    """Its deep nets would begin otherwise than those that are trained already."""
    for before, after in (({"schedule.warmup": 0.1}, (0.1, 0.0)), ({}, (0.0, None))):
        study = DepthStudy(tmp_path, asked(depths=(20, 110)))
        study.asked.wishes.update(before)
        study.write()
        found = read_study(tmp_path).asked.wishes
        assert (found["schedule.warmup"], found.get("schedule.warmup_rate")) == after
        assert {"batch", *before} <= set(found)
    DepthStudy(tmp_path, asked()).write()
    assert read_study(tmp_path) == DepthStudy(tmp_path, asked())


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"asked": None}, {"asked": {"data": 1}}, {"ended": None}], ids=lambda c: next(iter(c))
)
def test_damaged_plans_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    DepthStudy(tmp_path, asked()).write()
    plain = json.loads((tmp_path / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps(plain | change))
    with pytest.raises(RunError, match=r"depth\.json"):
        read_study(tmp_path)
    for name, value in (("wishes", []), ("pictures", "x"), ("data", 7), ("recipe", None), ("seeds", True)):
        (tmp_path / PLAN).write_text(json.dumps(plain | {"asked": plain["asked"] | {name: value}}))
        with pytest.raises(RunError, match=rf"depth\.json is not a depth study: asked\.{name}"):
            read_study(tmp_path)
    (tmp_path / PLAN).write_text("{")
    with pytest.raises(RunError, match=r"depth\.json"):
        read_study(tmp_path)


def test_other_things_are_not_mixed_with(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    check_place(tmp_path)
    (tmp_path / ".lock").touch()
    check_place(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="holds something else"):
        check_place(tmp_path)
