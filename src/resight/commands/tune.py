"""``resight tune``: a search over settings, each trial a real training; the best one becomes a sealed Run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from resight.commands.extras import need
from resight.commands.resume import finish
from resight.commands.start import Looked, decide, free_name, look, make_run
from resight.commands.train import seconds_of
from resight.commands.whole_only import refuse_tiles
from resight.errors import UsageError
from resight.runs import CARD, HISTORY, Run
from resight.runs.plain_json import read_json
from resight.runs.storage import exclusive, storage_errors, write_atomic

if TYPE_CHECKING:
    import optuna

    from resight.recipes import TrainConfig
    from resight.tuning.study import Asked, Study

TRIALS = 20


@dataclass(frozen=True)
class Tuned:
    """A study that is done. run: the best trial's, sealed. found: what study.json says under ``result``."""

    path: Path
    run: Run
    found: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The ``resight train`` of the best settings."""
        return str(self.found["best"]["command"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        test = self.run.card.metrics.get("test")
        return {"study": str(self.path), "run": str(self.run.path), "test": test, **self.found}

    def to_text(self) -> str:
        """For a terminal."""
        from resight.tuning.findings import to_text

        low, high = self.run.metrics.interval("accuracy")
        metrics = self.run.metrics
        score = f"{metrics.part} accuracy {100 * metrics.top1:.2f} % [{100 * low:.1f}, {100 * high:.1f}]"
        return f"{to_text(self.found)}\nits Run: {self.run.path}, {score}"


def tune(
    data: str | Path,
    *,
    space: Sequence[str] | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    seeds: int = 0,
    objective: Literal["accuracy", "loss"] = "accuracy",
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> Tuned:
    """Searches for settings and returns the study, its best Run sealed.

    space: groups of ``resight.tuning.space.DIMENSIONS``; None: all that apply, without fields that options or ``set``
    decide. trials: of the study, those of earlier calls included; default 20, or no limit with a budget. budget:
    ``"1h"`` or seconds, of all calls together. seeds: other seeds that the best three settings, and the recipe's own,
    are repeated with. objective: of the validation part; with ``select=balanced`` accuracy stands for mean recall.
    out: the study's directory; one that is there goes on. options and set: as of ``train``: what all trials share.

    Raises UsageError, DataError, RunLocked, TrainingError, Interrupted (go on with ``resume``).
    """
    _needs()
    from resight.recipes.options import wishes_of
    from resight.tuning.study import Asked, check_place

    wishes, recipe = wishes_of(options, set)
    refuse_tiles(wishes, "resight tune")
    limit = _whole("--trials", trials, 1) if trials is not None else 0 if budget is not None else TRIALS
    seconds = 0.0 if budget is None else seconds_of(budget)
    if _check(wishes, recipe, space, seeds, objective).transfer.rung == "lpft":
        wishes["transfer.folds"] = 0  # each trial trains: nothing that is searched changes the probe
    if out is not None:
        check_place(Path(out))
    from resight.training.progress import reporter

    report = reporter()
    looked, dims, config = _decide(data, wishes, recipe, space, report.say)
    folder = Path(out) if out is not None else free_name(looked.path, "tune")
    asked = Asked(
        data=config.data.path,
        recipe=recipe,
        wishes=wishes,
        space=None if space is None else list(space),
        objective=objective,
        trials=limit,
        budget_seconds=seconds,
        seeds=seeds,
        fingerprint=looked.samples.fingerprint(),
    )
    return _study(folder, asked, looked, dims, config, report)


def is_study(folder: str | Path) -> bool:
    """Whether ``tune`` made this directory."""
    return (Path(folder) / "study.json").is_file()


def go_on(folder: str | Path) -> Tuned:
    """A study as it was started, from wherever it stands. Raises as ``tune``."""
    _needs()
    folder = Path(folder)
    from resight.training.progress import reporter
    from resight.tuning.study import Asked, read_study

    try:
        asked = Asked(**read_study(folder)["asked"])
    except TypeError as error:
        raise UsageError(f"{folder / 'study.json'} is not a study: {error}") from error
    report = reporter()
    looked, dims, config = _decide(asked.data, asked.wishes, asked.recipe, asked.space, report.say)
    return _study(folder, asked, looked, dims, config, report)


def _needs() -> None:
    need("tuning", "tune", "optuna", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a study runs in one process", hint="start it without torchrun")


def _check(
    wishes: Mapping[str, Any], recipe: str | None, space: Sequence[str] | None, seeds: Any, objective: str
) -> TrainConfig:
    """Refuses, before any data are touched, what is wrong whatever they are. Returns the settings for assumed data."""
    from resight.training import prepare
    from resight.tuning.space import check_names

    check_names(space)
    _whole("--seeds", seeds, 0)
    if objective not in ("accuracy", "loss"):
        raise UsageError(f"there is no objective {objective!r}", hint="objectives: accuracy, loss")
    first = prepare.first_look(dict(wishes), recipe)
    if first.transfer.rung == "features":
        raise UsageError(
            "there is nothing to tune in features alone: what is searched has an effect on updates only",
            hint="search for the training of all layers: --recipe transfer",
        )
    if first.budget_seconds:
        raise UsageError(
            "budget_seconds would give each trial another number of updates: they would not compare",
            hint="say with --epochs how long each trial trains, with --budget how long the study may take",
        )
    if "transfer.folds" in wishes:
        raise UsageError("transfer.folds has no effect in a study: every trial trains all layers", hint="leave it out")
    return first


def _whole(option: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise UsageError(f"{option} is {value!r}; expected a whole number, {least} or more")
    return value


def _decide(
    data: str | Path, wishes: dict[str, Any], recipe: str | None, space: Sequence[str] | None, say: Any
) -> tuple[Looked, Any, Any]:
    """The checked data, the dimensions, and the complete configuration that they lie around."""
    from resight.recipes import Facts
    from resight.tuning.space import dimensions

    looked = look(data, wishes, recipe, say)
    if looked.samples.task == "multi":
        raise UsageError(
            "tune searches by the accuracy of one class a picture; these pictures have any number of labels",
            hint="train with several --lr and compare the validation's mAP",
        )
    config, _ = decide(looked, wishes, recipe, say)
    facts = Facts(1, 2, int(np.median(looked.sizes.min(axis=1))))
    return looked, dimensions(config, space, small=facts.small, fixed=wishes), config


def _study(folder: Path, asked: Asked, looked: Looked, dims: Any, config: Any, report: Any) -> Tuned:
    """The search, the repetitions, and the seal of the best, in the study's directory, which is held meanwhile."""
    from resight.tuning.repeats import repeat, winner
    from resight.tuning.study import check_place, open_study, search

    check_place(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        per_epoch = len(looked.samples.part("train")) // config.batch
        study = open_study(folder, asked, config, dims, -(-config.total_steps // max(1, per_epoch)))
        report.say(
            f"{folder}: {config.model.name}, {config.total_steps} updates a trial, "
            f"searching {', '.join(d.field for d in dims)}; score: validation {study.score_name}, "
            f"{len(looked.samples.part('val')):,} pictures"
        )

        seen: dict[str, Any] = {}  # the frozen features, once for each way to prepare pictures

        def train(path: Path, wishes: Mapping[str, Any], trial: optuna.trial.Trial | None) -> list[dict[str, Any]]:
            return _train(looked, asked, {**asked.wishes, **wishes}, path, trial, report, seen)

        def store() -> None:
            _write(study, [], looked)

        search(study, train, report.say, store)
        repeated = repeat(study, train, report.say)
        best = winner(study, repeated)
        if study.sealed and best.number != study.sealed[-1]:
            report.say("note: the test part was answered for another trial of this study before")
        run = finish(study.folder(best.number), report)
        if best.number not in study.sealed:
            study.sealed.append(best.number)
        _write(study, repeated, looked)
    assert study.result is not None
    return Tuned(folder, run, study.result)


def _train(
    looked: Looked,
    asked: Asked,
    wishes: dict[str, Any],
    path: Path,
    trial: optuna.trial.Trial | None,
    report: Any,
    seen: dict[str, Any],
) -> list[dict[str, Any]]:
    """Trains to the last step in ``path``, from its newest checkpoint where there is one; returns the epochs."""
    from resight.training.checkpoint import newest
    from resight.tuning.watch import Watcher

    checkpoint, status = None, "none"
    if (path / CARD).is_file():
        run = Run.open(path, sealed=False, verify=False)
        checkpoint, status = newest(run, report.say), run.card.status
    if status in ("none", "training") and checkpoint is None:  # killed before its first save: nothing is lost
        if path.exists():
            shutil.rmtree(path)
        config, source = decide(looked, wishes, asked.recipe, lambda _: None)
        make_run(looked, config, source, path, lambda _: None)
    before = checkpoint.state.history if checkpoint else []
    finish(path, Watcher(report, trial, asked.objective, before), to_seal=False, seen=seen)
    return [read_json(line) for line in (path / HISTORY).read_text("utf-8").splitlines()]


def _write(study: Study, repeated: Sequence[Any], looked: Looked) -> None:
    """study.json and study.png, with what was found so far."""
    from resight.reporting.page import image
    from resight.reporting.tuning import study_figure
    from resight.tuning.findings import findings
    from resight.tuning.study import FIGURE

    study.result = findings(study, repeated, len(looked.samples.part("val")))
    study.write()
    kinds = {dimension.field: dimension.kind for dimension in study.dims}
    write_atomic(study.path / FIGURE, image(study_figure(study.result, kinds), "png"))
