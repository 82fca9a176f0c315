"""``resight doctor``: what is wrong with a data set, before an hour is spent on it. Needs no PyTorch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.predict import resolve_run
from resight.errors import UsageError
from resight.images import printable
from resight.inference import Predictor
from resight.inference.tasks import only_answering
from resight.runs import CrossValidation, Run, is_crossval
from resight.samples import SampleSet, load

if TYPE_CHECKING:
    from resight.doctor import Diagnosis
    from resight.doctor.diagnosis import Describe, Progress


def examine(
    data: str | Path,
    *,
    run: Run | CrossValidation | str | Path | None = None,
    weights: Run | str | Path | None = None,
    unlabelled: bool = False,
    page: str | Path | None = None,
    write_manifest: str | Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Looks at every picture of a data set once, and says what is wrong with it.

    data: a folder of classes, split folders, a CSV, idx or CIFAR binary files; parts that are not there are not carved.
    run: a Run trained on it, or a cross-validation, for labels that it contradicts. weights: a Run, also one that was
    pretrained without labels, by whose embeddings pictures are alike, or unlike all others. unlabelled: take every
    picture in the folder, and below, as one without a label. page: an HTML file to write.
    write_manifest: a CSV file to write, the cleaned data set, see :mod:`resight.doctor.manifest`.
    ``progress(what, done, total)``.

    Raises DataError for what is no data set, UsageError, RunError, StorageError.
    """
    from resight.doctor import check_manifest, clean, diagnose
    from resight.doctor import write_manifest as write

    path = Path(data)
    outputs = {"--page": page, "--write-manifest": write_manifest}
    check_outputs(
        {option: None if out is None else Path(out) for option, out in outputs.items()},
        endings={"--page": (".html", ".htm"), "--write-manifest": (".csv",)},
    )
    if page is not None:
        need("a page", "report", "jinja2")
    if unlabelled and (run is not None or write_manifest is not None):
        raise UsageError("--unlabelled has no labels for --run or --write-manifest", hint="leave one of them out")
    opened, described = _opened(run), None if weights is None else resolve_run(weights, embeds=True)
    samples = load(data, val_fraction=0, test_fraction=0, training=False, unlabelled=unlabelled)
    if write_manifest is not None:
        check_manifest(samples, Path(write_manifest), path)
    describe = None if described is None else _describe(described, samples, threads)
    found = diagnose(samples, path, threads=threads or _cores(), run=opened, describe=describe, progress=progress)
    if write_manifest is not None:
        write(found.scan, clean(found.scan, found.duplicates), Path(write_manifest), path)
    if page is not None:
        from resight.reporting.doctor_page import write_doctor

        write_doctor(found, Path(page))
    return found


def _opened(run: Run | CrossValidation | str | Path | None) -> Run | CrossValidation | None:
    if run is None or isinstance(run, Run | CrossValidation):
        return run
    if is_crossval(Path(run)):
        return CrossValidation.open(run)
    opened = Run.open(run, verify=False)
    only_answering(opened, "finding labels that it contradicts")
    return opened


def _describe(run: Run, samples: SampleSet, threads: int | None) -> Describe:
    predictor = Predictor(run, threads=threads, pictures=len(samples), embeds=True)
    return lambda positions: (predictor.embeddings(samples, positions), printable(str(run.path)))


@contextmanager
def on_terminal() -> Iterator[Progress | None]:
    """How far it is, as one line on stderr that goes away; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield show


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
