"""``resight crossval``: a Run for each fold, made as ``resight train`` makes it, and one report over all of them."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resight import samples as data_sets
from resight.commands.crossval_asked import Asked
from resight.commands.extras import need
from resight.commands.outputs import check_outside_runs
from resight.commands.resume import resume
from resight.commands.train import train
from resight.errors import DataError, Interrupted, ResightError, RunError, UsageError
from resight.images import printable
from resight.runs import CARD, CHECKPOINTS, CONFIG, SPLIT, CrossValidation, Run
from resight.runs.crossval import PLAN, SPLITS, fold_path, is_crossval, read_plan, split_path, write_plan
from resight.runs.storage import exclusive, storage_errors
from resight.samples import HELD_OUT, SampleSet, split_csv

Say = Callable[[str], None]


def crossval(
    data: str | Path,
    *,
    folds: int = 5,
    seed: int | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> CrossValidation:
    """Trains ``folds`` networks, each tested on the pictures that it has not seen; returns the cross-validation.

    data, seed, set, options: as of :func:`resight.train`; a budget is for all folds together, and the number of steps
    that it is turned into in the first fold is that of all. Pictures in the data set's own test part are left out.
    out: a folder, by default ``runs/DATA-crossval-N``. The same call goes on where an earlier one was stopped:
    finished folds are kept.

    Raises UsageError, DataError (before anything is written, or where data changed), RunError where the folder holds
    another cross-validation, and what ``train`` raises.
    """
    need("training", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")
    from resight.commands.crossval_report import summarise
    from resight.training import named
    from resight.training.distributed import world_size
    from resight.training.progress import reporter

    if world_size() > 1:
        raise UsageError(
            "crossval runs in one process: it trains one fold after the other",
            hint="start it without torchrun, or train single folds: resight train DATA --split OUT/splits/fold-1.csv",
        )
    say = reporter(True).say
    data = named.data_path(data)
    asked = Asked.of(data, folds, seed, set, options)
    samples = data_sets.load(data, val_fraction=0, test_fraction=0)
    if samples.task == "multi":
        raise UsageError(
            "crossval deals out pictures with one class each; these have any number of labels",
            hint="train once: resight train, which carves the test part by labels",
        )
    asked.check_weights(samples)
    plan = asked.plan(samples)
    path = _place(data, Path(out) if out else None, plan)
    made = not path.exists()
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    with exclusive(path), _begun(path, made):
        if is_crossval(path) and _started(path):
            _check_same(path, plan, samples)
        else:
            _write_splits(path, asked, samples, plan, say)
        runs = tuple(_fold(path, asked, number, say) for number in range(1, folds + 1))
        return summarise(path, plan | {"status": "complete"}, runs, say)


def _place(data: str | Path, out: Path | None, plan: Mapping[str, Any]) -> Path:
    """The folder: new, or holding a cross-validation. Without ``out`` an unfinished one of the same plan, or a new one.

    Raises UsageError for a folder that holds something else.
    """
    if out is not None:
        check_outside_runs(out)
        own = {".lock", SPLITS, f"{PLAN}.tmp"}  # of one that was killed before it had begun
        taken = out.exists() and (not out.is_dir() or any(entry.name not in own for entry in out.iterdir()))
        if taken and not is_crossval(out):
            raise UsageError(
                f"{printable(str(out))} holds something else: a cross-validation would mix with it",
                hint="choose another --out",
            )
        return out
    stem = re.sub(r"[^\w.-]+", "-", Path(data).resolve().name.removesuffix(".csv")).strip("-.") or "data"
    for number in itertools.count(1):
        path = Path("runs") / f"{stem}-crossval-{number}"
        if not path.exists() or _is_same(path, plan):
            return path
    raise AssertionError("numbers do not end")


def _is_same(path: Path, plan: Mapping[str, Any]) -> bool:
    try:
        return read_plan(path) == plan
    except RunError:  # something else
        return False


@contextmanager
def _begun(path: Path, made: bool) -> Iterator[None]:
    """Where nothing was trained when an error came, what this call made is removed again."""
    new = not is_crossval(path)
    try:
        yield
    except ResightError:
        if new and not fold_path(path, 1).exists():
            shutil.rmtree(path / SPLITS, ignore_errors=True)
            (path / PLAN).unlink(missing_ok=True)
            if made:
                shutil.rmtree(path, ignore_errors=True)
        raise


def _started(path: Path) -> bool:
    """Whether a fold has learned anything: until then a plan, perhaps one that cannot be met, binds nobody."""
    return any(path.glob(f"fold-*/{CHECKPOINTS}"))


def _write_splits(path: Path, asked: Asked, samples: SampleSet, plan: dict[str, Any], say: Say) -> None:
    """Decides which picture is in which fold, once: the plan is written last, and counts from then on."""
    from resight.training import prepare

    for warning in samples.warnings:
        say(f"note: {warning}")
    held = samples.leaving_out([HELD_OUT if sample.split == "test" else None for sample in samples.samples])
    checked, _ = prepare.check(held, asked.skip_bad, say, asked.channels)
    sets, warnings = data_sets.fold_sets(checked, asked.folds, asked.seed, asked.val_fraction)
    for warning in warnings:
        say(f"note: {warning}")
    with storage_errors(path):
        (path / SPLITS).mkdir(exist_ok=True)
    for number, fold in enumerate(sets, start=1):
        split_csv.write(split_path(path, number), fold)
    write_plan(path, plan)
    sizes = sorted({len(fold.part("test")) for fold in sets})
    each = " to ".join(f"{size:,}" for size in {sizes[0]: 0, sizes[-1]: 0})
    groups = len({sample.group for sample in checked.samples} - {None})
    away = f"; {plan['data']['held_out']:,} pictures of its test part are left out" if plan["data"]["held_out"] else ""
    say(
        f"{path}: {len(checked):,} pictures in {asked.folds} folds of {each}"
        f"{f', {groups:,} groups kept whole' if groups else ''}{away}"
    )


def _check_same(path: Path, plan: Mapping[str, Any], samples: SampleSet) -> None:
    """Raises RunError with a diff for other settings than the folder was begun with, DataError for other data."""
    begun = read_plan(path)
    was, now = (
        {**p["settings"], "folds": p["folds"], "seed": p["seed"], "data": p["data"].get("path")} for p in (begun, plan)
    )
    changed = [
        f"{name} was {was.get(name, 'not given')} and is {now.get(name, 'not given')}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    if changed:
        raise RunError(
            f"{printable(str(path))} was begun with other settings: {'; '.join(changed)}",
            hint="give the same ones to go on, or choose another --out",
        )
    if begun["data"].get("fingerprint") != plan["data"]["fingerprint"]:
        table = split_path(path, 1)
        labels = {(s.source, s.index): samples.classes[s.label] for s in samples.samples}
        split_csv.check_same(labels, split_csv.read(table), table)  # names the difference, where names differ
        raise DataError(
            f"the pictures in {plan['data']['path']} changed since {printable(str(path))} was begun: the same names, "
            "other content or another own split",
            hint="restore the pictures, or choose another --out",
        )


def _fold(path: Path, asked: Asked, number: int, say: Say) -> Run:
    """The sealed Run of one fold: as it is, gone on with, or begun."""
    fold = fold_path(path, number)
    say(f"\nfold {number} of {asked.folds}")
    _clear_unborn(fold)
    try:
        if (fold / CARD).exists():
            return resume(fold)
        first = None if number == 1 else Run.open(fold_path(path, 1), verify=False)
        options, fields = asked.training(first)
        return train(asked.data, split=split_path(path, number), out=fold, set=fields, **options)
    except Interrupted as error:
        raise Interrupted(
            f"fold {number} of {asked.folds}: {error.message}",
            signal_number=error.exit_code - 128,
            hint=f"the same command goes on in {printable(str(path))}; what is finished is kept",
        ) from error


def _clear_unborn(fold: Path) -> None:
    """A Run that was killed while it was being written down, before any training, is begun anew."""
    if (fold / CARD).exists() and not (fold / CHECKPOINTS).exists():
        with exclusive(fold):
            if Run.open(fold, sealed=False, verify=False).card.status == "training":
                for name in (CARD, CONFIG, SPLIT):
                    (fold / name).unlink(missing_ok=True)
