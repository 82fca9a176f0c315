"""``resight study depth``: plain and residual nets of rising depth, each a Run, and one page over all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resight.commands.extras import need
from resight.commands.resume import finish
from resight.commands.start import Looked, decide, free_name, look, make_run
from resight.commands.whole_only import refuse_tiles
from resight.errors import DataError, Interrupted, NonFiniteLoss, RunError, UsageError
from resight.images import printable
from resight.runs import CARD, Run
from resight.runs.storage import exclusive, storage_errors
from resight.studying.plan import (
    MEASURED,
    PAGE,
    RUNS,
    Asked,
    DepthStudy,
    Member,
    check_asked,
    check_place,
    is_depth_study,
    read_study,
)

__all__ = ["Depth", "go_on", "is_depth_study", "study_depth"]

PAPER: dict[str, Any] = {"depths": (20, 32, 44, 56, 110), "seeds": 1, "end_seeds": 3, "pictures": 0}
SMALL: dict[str, Any] = {"depths": (8, 20, 44), "seeds": 1, "end_seeds": 0, "pictures": 4000}
_SMALL_FIELDS = {
    "model.options.stem": "tiny",
    "data.image_size": 28,
    "total_steps": 400,
    "batch": 64,
    "optimizer.lr": 0.05,
}
RECIPE = "he2015-cifar"
_DECIDED = ("seed", "model.name", "model.weights", "model.zero_gamma", "model.freeze", "model.norms")
_OPTIONS = ("shortcut", "norm", "stochastic_depth")


@dataclass(frozen=True)
class Depth:
    """A study that is done. best: the Run with the highest validation accuracy. found: what depth.json says under
    ``result``."""

    path: Path
    best: Run
    found: Mapping[str, Any]

    @property
    def page(self) -> Path:
        return self.path / PAGE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"study": str(self.path), "page": str(self.page), "best": str(self.best.path), **self.found}

    def to_text(self) -> str:
        """For a terminal."""
        from resight.studying.findings import to_text

        return f"{to_text(self.found)}\n\nthe study lies in {self.path}\n  look: {self.page}"


def study_depth(
    data: str | Path,
    *,
    depths: Sequence[int] | None = None,
    seeds: int | None = None,
    end_seeds: int | None = None,
    ablate: Sequence[str] = (),
    small: bool = False,
    steps: int | None = None,
    pictures: int | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> Depth:
    """Trains plain and residual nets of the CIFAR type (He et al. 2015, §4.2), alike but for depth and shortcuts.

    depths: layers, two or more of ``resight.studying.plan``'s; default 20, 32, 44, 56, 110. seeds: trainings of each
    net; end_seeds: of those of the first and the last depth. ablate: names of ``ABLATIONS``, each one thing that is
    changed in the residual nets. small: depths 8, 20, 44, 400 updates of 64 of 4,000 pictures, the first convolution
    with stride 2: minutes on two cores; what is given besides counts. Otherwise the paper's schedule of 64,000 updates.
    steps: updates of each training. pictures: in all parts together, each part keeps its share. out: the study's
    folder, by default ``runs/DATA-depth-N``; one that is there goes on. options and set: as of ``train``, for all
    members.

    Raises UsageError, DataError, RunError where the folder holds another study, RunLocked, TrainingError, and
    Interrupted (go on with ``resume``).
    """
    _needs()
    from resight.recipes.options import wishes_of

    preset = SMALL if small else PAPER
    layers = tuple(depths or preset["depths"])
    wishes, recipe = wishes_of(options, set)
    refuse_tiles(wishes, "resight study depth")
    fields: dict[str, Any] = {**_SMALL_FIELDS} if small else {}
    if steps is not None:
        wishes["total_steps"] = steps
    timed = {"epochs", "budget_seconds", "total_steps"} & wishes.keys()
    fields = {k: v for k, v in fields.items() if not (k == "total_steps" and timed)}
    wishes = fields | _warmup(layers, recipe or RECIPE, wishes) | wishes
    _check(wishes)
    asked = Asked(
        data=str(Path(data)),
        depths=layers,
        seeds=preset["seeds"] if seeds is None else seeds,
        end_seeds=_end_seeds(preset["end_seeds"], seeds, end_seeds),
        ablate=tuple(ablate),
        recipe=recipe or RECIPE,
        wishes=wishes,
        pictures=preset["pictures"] if pictures is None else pictures,
    )
    check_asked(asked.depths, asked.ablate, asked.seeds, asked.end_seeds)
    if out is not None:
        check_place(Path(out))
    return _study(asked, Path(out) if out is not None else None)


def go_on(folder: str | Path) -> Depth:
    """A study as it was started, from wherever it stands. Raises as ``study_depth``."""
    _needs()
    study = read_study(Path(folder))
    _check(study.asked.wishes)
    return _study(study.asked, study.path)


def _needs() -> None:
    need("studying", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a study runs in one process: one training after the other", hint="start it without torchrun")


def _end_seeds(preset: int, seeds: int | None, given: int | None) -> int:
    """As given; else the preset's, where it is more than every depth has."""
    if given is not None:
        return given
    return preset if seeds is None or preset > seeds else 0


def _warmup(layers: Sequence[int], recipe: str, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe gives deep nets alone (He et al. 2015, §4.2): here all nets, where any is deep."""
    from resight.recipes import DEEP, WARMUP

    if recipe != RECIPE or max(layers) < DEEP:
        return {}
    fields = {f"schedule.{name}": value for name, value in WARMUP.items()}
    if not wishes.get("schedule.warmup", True):
        del fields["schedule.warmup_rate"]  # there is none that it could be the rate of
    return fields


def _check(wishes: Mapping[str, Any]) -> None:
    """Raises UsageError for fields that the study decides itself, or whose effect would differ between members."""
    for name in wishes:
        options = name.removeprefix("model.options.") in _OPTIONS
        if name in _DECIDED or options or name.startswith(("transfer.", "distill.")):
            raise UsageError(f"{name} is what the study compares, or keeps alike", hint="leave it out, or see --ablate")
    if "budget_seconds" in wishes:
        raise UsageError(
            "a budget would give deep nets fewer updates than shallow ones: they would not compare",
            hint="say with --steps or --epochs how long each net trains",
        )
    if wishes.get("patience"):
        raise UsageError(
            "patience would give each net as many updates as it likes: they would not compare",
            hint="leave it out; --steps or --epochs say how long each net trains",
        )


def _study(asked: Asked, folder: Path | None) -> Depth:
    from resight.training.progress import reporter

    report = reporter()
    wishes = asked.wishes | {"model.name": f"resnet{asked.depths[0]}"}
    looked = look(asked.data, dict(wishes), asked.recipe, report.say)
    if looked.samples.task == "multi":
        raise UsageError("depth is studied with one class a picture; these pictures have any number of labels")
    looked = replace(looked, samples=_share(looked.samples, asked.pictures))
    asked = replace(asked, data=str(looked.path.resolve()), fingerprint=looked.samples.fingerprint())
    decide(looked, dict(wishes), asked.recipe, lambda _: None)  # raises before anything is written
    folder = folder if folder is not None else free_name(looked.path, "depth")
    check_place(folder)
    with storage_errors(folder):
        for part in (RUNS, MEASURED):
            (folder / part).mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        study = _open(folder, asked)
        members = asked.members()
        report.say(f"{folder}: {len(members)} trainings: {', '.join(asked.kinds)}; {_depths(asked)} layers")
        best = None
        for number, member in enumerate(members, start=1):
            if member.name in study.ended:
                continue
            report.say(f"\n{number} of {len(members)}: {member.name}")
            if _train(study, member, looked, report):
                best = _write(study)
        best = best or _write(study)
    if best is None or study.result is None:
        raise UsageError("every training diverged", hint="begin anew with a lower --lr")
    return Depth(folder, best, study.result)


def _depths(asked: Asked) -> str:
    return ", ".join(map(str, asked.depths))


def _share(samples: Any, pictures: int) -> Any:
    """About so many pictures: of each part and class its share, at least one, evenly over their order; 0: all."""
    from resight.samples import LEFT_OUT

    if pictures < 0:
        raise UsageError(f"--pictures is {pictures}; expected a number of pictures, or 0 for all")
    if not 0 < pictures < len(samples):
        return samples
    share, kept = pictures / len(samples), {}
    seen: dict[tuple[str, int], int] = {}
    for position, sample in enumerate(samples.samples):
        key = (sample.split, sample.label)
        number = seen[key] = seen.get(key, -1) + 1
        kept[position] = number == 0 or int(number * share) > int((number - 1) * share)
    return samples.leaving_out([None if kept[k] else LEFT_OUT for k in range(len(samples))])


def _open(folder: Path, asked: Asked) -> DepthStudy:
    """The study in the folder, with what may be raised; or a new one. Raises RunError for another study, DataError for
    other data."""
    if not is_depth_study(folder):
        study = DepthStudy(folder, asked)
        study.write()
        return study
    study = read_study(folder)
    fields = ("data", "recipe", "wishes", "pictures")
    changed = [
        f"{name} was {getattr(study.asked, name)} and is {getattr(asked, name)}"
        for name in fields
        if getattr(study.asked, name) != getattr(asked, name)
    ]
    if changed:
        raise RunError(
            f"{printable(str(folder))} was begun with other settings: {printable('; '.join(changed), 2000)}",
            hint="give the same ones to go on, or choose another --out; with 110 layers or more all nets warm up, so "
            "such depths are asked for from the start",
        )
    if study.asked.fingerprint != asked.fingerprint:
        raise DataError(
            f"the pictures in {printable(asked.data)} changed since {printable(str(folder))} was begun",
            hint="restore the pictures, or choose another --out",
        )
    study.asked = asked  # depths, seeds and ablations may be more or fewer: what is trained is kept
    return study


def _train(study: DepthStudy, member: Member, looked: Looked, report: Any) -> bool:
    """The member's sealed Run, from wherever it stands, and what is measured of it. A training that diverges is a
    finding. Returns whether anything is new. Raises Interrupted, the state saved."""
    from resight.studying.gradients import GradientWatch
    from resight.studying.measure import measure_run
    from resight.training.checkpoint import newest

    path = study.run_path(member)
    begun = (path / CARD).is_file() and Run.open(path, sealed=False, verify=False)
    if not begun or (begun.card.status == "training" and newest(begun, report.say) is None):
        if path.exists():  # killed before its first save: nothing is lost
            shutil.rmtree(path)
        wishes = {**study.asked.wishes, **member.wishes}
        config, source = decide(looked, wishes, study.asked.recipe, lambda _: None)
        make_run(looked, config, source, path, report.say)
    watch = GradientWatch(report, study.measured_path(member))
    try:
        run = finish(path, watch, observe=watch.attach)
    except NonFiniteLoss as error:
        report.say(f"{member.name}: {error.message}")
        study.ended[member.name] = error.message
        return True
    except Interrupted as error:
        raise Interrupted(
            f"{member.name}: {error.message}",
            signal_number=error.exit_code - 128,
            hint=f"go on with: resight resume {printable(str(study.path))}",
        ) from error
    return measure_run(run, study.measured_path(member))


def _write(study: DepthStudy) -> Run | None:
    """depth.json and the page, with what was found so far; the best Run by validation."""
    from resight.reporting.depth_page import write_depth
    from resight.studying.claims import claims
    from resight.studying.findings import findings, finished_runs

    runs = finished_runs(study)
    study.result = None
    if runs:
        found = findings(study, runs)
        study.result = found | {"claims": claims(found)}
    study.write()
    if study.result is None:
        return None
    write_depth(study.path / PAGE, study.result)
    return max(runs.values(), key=lambda run: float(run.card.metrics["val"]["metrics"]["accuracy"]["value"]))
