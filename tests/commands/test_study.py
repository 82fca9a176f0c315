"""``resight study``: real trainings, small; what goes on, what is refused, what diverges."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save
from tests.training.tiny import write_patterns

from resight.commands import resume as resuming
from resight.commands.resume import resume
from resight.commands.study import study_depth
from resight.commands.study_shortcuts import study_shortcuts
from resight.errors import DataError, Interrupted, RunError, UsageError
from resight.evaluation import evaluate
from resight.exporting import seal as sealing
from resight.reporting import depth_page
from resight.runs import ONNX, WEIGHTS, Run
from resight.studying.gradients import GradientWatch
from resight.training.optim import rate_factor

SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "threads": 1, "data.workers": 0}
ASKED: dict[str, Any] = {"depths": (8, 14), "end_seeds": 0, "steps": 4, "batch": 8}
NAMES = [f"{kind}-{layers}-seed0" for layers in (8, 14) for kind in ("plain", "residual")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("study") / "my pätterns", each=20)


@pytest.fixture(scope="module", autouse=True)
def quick_seal() -> Any:
    """Sealing without graph and reference, which takes seconds and is tested elsewhere; the metrics are real."""

    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Any) -> None:
        labels = samples.targets(samples.part("val"))
        found = evaluate(logits, labels, run.classes).to_dict()
        state = {name: value.contiguous() for name, value in net.state_dict().items()}
        (run.path / WEIGHTS).write_bytes(save(state))
        (run.path / ONNX).write_bytes(b"not tested here")
        run.update(metrics={"val": found, "test": found})
        run.seal()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "seal", seal)
        patch.setattr(resuming, "_summary", lambda run, say: None)
        yield


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time here, and are looked at in one test."""
    monkeypatch.setattr(depth_page, "write_depth", lambda path, found: None)


def ask(data: Path, out: Path, **changes: Any) -> Any:
    given = ASKED | changes
    return study_depth(data, out=out, set=SETTINGS | given.pop("set", {}), **given)


@pytest.fixture(scope="module")
def study(data: Path) -> Path:
    out = data.parent / "depth"
    ask(data, out)
    return out


def result(folder: Path) -> dict[str, Any]:
    """What was found, without times."""
    found = json.loads((folder / "depth.json").read_text("utf-8"))["result"]
    for member in found["members"]:
        del member["seconds"]
    return found


def test_a_study_is_runs_a_file_and_a_page(study: Path) -> None:
    assert sorted(path.name for path in (study / "runs").iterdir()) == sorted(NAMES)
    assert all(Run.open(study / "runs" / name).card.status == "sealed" for name in NAMES)
    found = result(study)
    assert found["complete"]
    assert [member["name"] for member in found["members"]] == NAMES
    for member in found["members"]:
        assert len(member["responses"]) == len(member["layers"]) == member["depth"] - 1
        assert list(member["gradients"]) == ["1", "2", "3", "4"]
        assert 0 <= member["train_error"] <= 1
    page = (study / "depth.html").read_text("utf-8")
    assert "plain-14-seed0" in page
    assert "src=" in page
    assert "://" not in page.replace("arXiv", "")  # nothing is fetched
    assert "<script" not in page


def test_members_differ_in_what_is_compared_alone(study: Path) -> None:
    plain, residual = (json.loads((study / "runs" / n / "config.json").read_text()) for n in NAMES[:2])
    assert plain["model"].pop("name") == "resnet8_plain"
    assert residual["model"].pop("name") == "resnet8"
    assert plain == residual


@pytest.mark.usefixtures("no_page")
def test_stopped_it_goes_on_to_the_same_numbers(data: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, step = data.parent / "stopped", GradientWatch.step

    def stops(self: GradientWatch, done: int, loss: float, rate: float) -> None:
        step(self, done, loss, rate)
        if done == 2 and "residual-8" in self.path.name:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(GradientWatch, "step", stops)
        with pytest.raises(Interrupted, match=r"(?s)residual-8-seed0: stopped at step 2 of 4.*resume .*stopped"):
            ask(data, out)
    begun = (out / "runs" / NAMES[0] / "run.json").read_bytes()
    best = resume(out)
    assert (out / "runs" / NAMES[0] / "run.json").read_bytes() == begun  # what is finished is kept
    assert result(out) == result(study)
    for name in NAMES:
        weights = [(folder / "runs" / name / WEIGHTS).read_bytes() for folder in (out, study)]
        assert weights[0] == weights[1], name
    assert best.path.parent == out / "runs"


@pytest.mark.usefixtures("no_page")
def test_more_may_be_asked_of_a_finished_study(data: Path, study: Path) -> None:
    before = {name: (study / "runs" / name / "run.json").stat().st_mtime_ns for name in NAMES}
    found = ask(data, study, ablate=("zero-gamma",)).found
    assert len(found["members"]) == 6
    assert "zero-gamma" in found["kinds"]
    assert {name: (study / "runs" / name / "run.json").stat().st_mtime_ns for name in NAMES} == before
    plan = json.loads((study / "depth.json").read_text("utf-8"))
    plan["ended"] = {"plain-56-seed0": "nan"}  # diverged when more was asked
    (study / "depth.json").write_text(json.dumps(plan))
    ask(data, study)
    assert [member["name"] for member in result(study)["members"]] == NAMES
    assert result(study)["complete"]
    assert not result(study)["ended"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": {"model.zero_gamma": True}}, "model.zero_gamma is what the study compares"),
        ({"set": {"model.options.shortcut": "B"}}, "model.options.shortcut is what the study compares"),
        ({"set": {"budget_seconds": 60}}, "a budget would give deep nets fewer updates"),
        ({"set": {"patience": 1}}, "patience would give each net"),
        ({"set": {"seed": 3}}, "seed is what the study compares"),
        ({"depths": (8, 9)}, "with 9 layers"),
        ({"pictures": -1}, "--pictures is -1"),
        ({"ablate": ("shortcut-A",)}, "has no effect"),
    ],
)
def test_what_would_not_compare_is_refused(data: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(data, tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("no_page")
def test_other_settings_and_other_data_are_refused(data: Path, study: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="begun with other settings: wishes"):
        ask(data, study, steps=5)
    plan = json.loads((study / "depth.json").read_text("utf-8"))
    plan["asked"]["fingerprint"] = "of other pictures"
    (tmp_path / "depth.json").write_text(json.dumps(plan))
    with pytest.raises(DataError, match="changed since"):
        resume(tmp_path)


@pytest.mark.usefixtures("no_page")
def test_a_share_of_the_pictures_is_even_over_parts_and_classes(data: Path, tmp_path: Path) -> None:
    found = ask(data, tmp_path / "some", pictures=30, steps=1)
    assert found.found["settings"]["counts"] == {"train": 24, "val": 3, "test": 3}


def test_a_training_that_diverges_is_a_finding(data: Path, tmp_path: Path) -> None:
    wild: dict[str, Any] = {"ablate": ("no-batchnorm",), "lr": 1e3, "steps": 6}
    found = ask(data, tmp_path / "wild", **wild).found
    assert found["complete"]
    assert found["ended"], "a rate of 1,000 without norms would have to diverge"
    assert {f"{kind}no-batchnorm-{depth}-seed0" for kind in ("", "plain-") for depth in (8, 14)} <= set(found["ended"])
    diverged = next(iter(found["ended"]))
    page = (tmp_path / "wild" / "depth.html").read_text("utf-8")
    assert f"{diverged} diverged." in page
    assert ask(data, tmp_path / "wild", **wild).found["ended"] == found["ended"]  # not tried again


def test_when_every_training_diverges_this_is_said(data: Path, tmp_path: Path) -> None:
    for _ in range(2):  # also of a study that is asked for again
        with pytest.raises(UsageError, match=r"every training diverged"):
            ask(data, tmp_path / "wild", lr=1e8, steps=6)
    assert set(json.loads((tmp_path / "wild" / "depth.json").read_text("utf-8"))["ended"]) == set(NAMES)


def test_shortcuts_of_a_run_are_a_page_and_the_run_stays(study: Path, tmp_path: Path) -> None:
    run = study / "runs" / NAMES[3]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = study_shortcuts(run, part="train", pictures=20, out=tmp_path / "page.html")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert [block["name"] for block in found.found["blocks"]] == [f"stage{n}.{k}" for n in (1, 2, 3) for k in (0, 1)]
    assert all((stage["probed_from"], stage["probed_on"]) == (10, 10) for stage in found.found["stages"])
    assert [stage["name"] for stage in found.found["stages"]] == ["stem", "stage1", "stage2", "stage3"]
    assert "stage3.1" in found.to_text()
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "stage3.1" in page
    assert "://" not in page
    with pytest.raises(UsageError, match="would lie in the Run"):
        study_shortcuts(run, out=run / "page.html")
    with pytest.raises(UsageError, match="expected val, test or train"):
        study_shortcuts(run, part="all", out=tmp_path / "page.html")


def test_shortcuts_of_a_plain_run(study: Path, tmp_path: Path) -> None:
    found = study_shortcuts(study / "runs" / NAMES[2], part="train", pictures=20, out=tmp_path / "page.html").found
    assert all(block["ratio"] is None for block in found["blocks"])
    assert "This network has no shortcuts" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("wish", [{}, {"schedule.warmup": 0.2}, {"schedule.warmup": 0.0}])
def test_with_deep_nets_all_have_the_schedule_that_the_recipe_gives_deep_ones(wish: dict[str, Any]) -> None:
    """Those of 20 layers begin as those of 110: depth is the only difference."""
    from resight.commands.study import RECIPE, _warmup
    from resight.recipes import Facts, check_effects, override, recipe

    assert _warmup((20, 56), RECIPE, wish) == _warmup((20, 110), "quick", wish) == {}
    wishes = _warmup((20, 110), RECIPE, wish) | wish
    configs = []
    for name in ("resnet20", "resnet110", "resnet110_plain"):
        configs.append(override(recipe(RECIPE, Facts(50_000, 10, 32, model=name)), wishes))
        check_effects(configs[-1], wishes)
    rates = [[rate_factor(config.schedule, step, 64_000) for step in (0, 399, 400, 20_000)] for config in configs]
    assert rates[0] == rates[1] == rates[2]
    assert rates[0][0] == (1.0 if wish.get("schedule.warmup") == 0 else 0.1)
