"""``resight predict --out FILE`` for more pictures than one wants to answer twice: resumable, in bounded memory.

Answers are appended to a journal beside the file (:mod:`resight.inference.journal`), which becomes the file when all
are there. Formats that grow line by line can do that: ``RESUMABLE``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from resight import __version__
from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.predict import Ready, prepare
from resight.commands.progress import Progress
from resight.errors import Interrupted, StorageError, UsageError
from resight.images import printable
from resight.inference import AUTO, BACKENDS, BATCH, Prediction, Predictor, dump_json, journal
from resight.inference.parquet import schema, write_parquet
from resight.inference.writers import plain
from resight.runs import ARTIFACT_CARD, ARTIFACTS, CARD, ONNX, REFERENCE, Run
from resight.runs.plain_json import read_json
from resight.runs.storage import exclusive, sha256_of
from resight.training.signals import StopRequest, stop_on_signal  # needs no PyTorch

PARQUET = "parquet"
RESUMABLE = ("jsonl", PARQUET)
ENDINGS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".parquet": PARQUET}
"""What a file is written as where nothing else is said."""
AGAIN = "the same call with resume=True"


@dataclass(frozen=True)
class Written:
    """number: of pictures. failed: those that could not be read, whose line says why."""

    number: int
    failed: int


def predict_to_file(
    run: Run | str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,
    top: int = 5,
    resume: bool = False,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Written:
    """Answer for each picture, in order, into a file: what ``resight predict --out`` does, for any number of pictures.

    images: files, folders and patterns. out: replaced when all are answered, and not before. format: ``jsonl`` or
    ``parquet``; None: what ``out`` ends in. resume: go on with what was begun and not finished; where nothing was,
    begin. The other arguments are those of ``resight.predict``.

    Raises what ``resight.predict`` raises. UsageError for a job that was begun and ``resume`` is not said, and one that
    was begun with another Run, other options or other pictures. RunLocked while another process writes the same file.
    StorageError, and Interrupted after SIGINT or SIGTERM: what is answered is kept then. MissingExtra for Parquet
    without pyarrow.
    """
    path = Path(out)
    chosen = format or ENDINGS.get(path.suffix.lower(), "")
    check_job(path, chosen, resume=resume)
    ready = prepare(run, images, artifact=artifact, backend=backend, threads=threads, batch=batch)
    return answer_all(ready, path, chosen, top=top, resume=resume, progress=progress)


def check_job(out: Path, format: str, *, resume: bool, again: str = AGAIN) -> None:
    """Refuses, before there is any work, what ``answer_all`` would refuse without looking at the Run or pictures."""
    if format not in RESUMABLE:
        known = " or ".join(RESUMABLE)
        raise UsageError(
            f"{printable(str(out))} cannot be written in pieces, or resumed; expected the format {known}",
            hint="end its name in .jsonl or .parquet, or say the format",
        )
    if format == PARQUET:
        need("Parquet", "parquet", "pyarrow")
    check_outputs({"--out": out})
    folder = journal.folder_of(out.resolve())
    if not resume:
        _check_not_begun(folder, out, again)
    elif not journal.is_begun(folder) and out.exists():
        raise UsageError(
            f"{printable(str(out))} is there, and no job for it is unfinished: there is nothing to resume",
            hint="without resuming it is made again, and replaced when that is done",
        )


def answer_all(
    ready: Ready,
    out: Path,
    format: str,
    *,
    top: int = 5,
    resume: bool = False,
    again: str = AGAIN,
    progress: Progress | None = None,
) -> Written:
    """Answers for all pictures into ``out``, after ``check_job``. again: how a person goes on after a stop."""
    if type(top) is not int or top < 1:
        raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
    work = _Work(ready.predictor, _files(ready), out.resolve(), format, top, again, progress or Progress())
    try:
        with _held(work.folder), stop_on_signal(work.progress.say) as stop:
            if not resume:
                _check_not_begun(work.folder, out, again)
            written = _finished(work) or _answered(work, stop)
            _published(work, stop)
            return written
    except StorageError as error:
        if not journal.is_begun(work.folder):
            raise
        kept = f"{journal.answered(work.folder):,} answers are kept"
        raise StorageError(f"{error.message}; {kept}", hint=f"make room, then continue with: {again}") from error


@dataclass(frozen=True)
class _Work:
    """A job and its circumstances."""

    predictor: Predictor
    sources: Sequence[Path]
    out: Path
    format: str
    top: int
    again: str
    progress: Progress

    @property
    def folder(self) -> Path:
        return journal.folder_of(self.out)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The journal's folder, for this process alone. It is removed at the end where it keeps nothing."""
    journal.make_folder(folder)
    held = False
    try:
        with exclusive(folder, "answering"):
            held = True
            try:
                yield
            finally:
                with suppress(StorageError):  # what went wrong before is what is said
                    if not journal.is_worth_keeping(folder):
                        journal.remove(folder)
    finally:
        if held and not journal.is_begun(folder):
            journal.remove_lock(folder)


def _check_not_begun(folder: Path, out: Path, again: str) -> None:
    if not journal.is_begun(folder):
        return
    total = journal.read_job(folder)["pictures"]
    raise UsageError(
        f"{printable(str(out))} was begun and not finished: "
        f"{journal.answered(folder):,} of {total:,} pictures are answered",
        hint=f"continue with: {again}\n  → or start over: remove {printable(str(folder))}",
    )


def _finished(work: _Work) -> Written | None:
    """Where the answers are in their place already, and only their journal was left; else None."""
    if not journal.is_begun(work.folder) or (work.folder / journal.ANSWERS).exists():
        return None
    _check_same(work)
    if work.out.exists():
        found = journal.check_answers(work.out, work.sources)
        if found.number == len(work.sources) and not found.damaged:
            return Written(found.number, found.failed)
    raise UsageError(
        f"{printable(str(work.folder))} has no {journal.ANSWERS}: somebody removed it",
        hint=f"start over: remove {printable(str(work.folder))}",
    )


def _answered(work: _Work, stop: StopRequest) -> Written:
    """All answers are in the journal afterwards. Raises Interrupted before that."""
    if journal.is_begun(work.folder):
        kept = _resumed(work)
    else:
        journal.begin(work.folder, _job(work), work.sources)
        kept = journal.Kept(0, 0, 0, damaged=False)
    total, done, failed = len(work.sources), kept.number, kept.failed
    work.progress.start(done, total)
    found = cast("Generator[Prediction]", work.predictor.predict(work.sources, work.top, start=done))
    with closing(journal.Journal(work.folder, kept.size)) as answers, closing(found):
        for answer in found:
            answers.append(journal_line(answer))
            done, failed = done + 1, failed + (answer.error is not None)
            work.progress.show(done, failed)
            if stop.number:
                break
    if done < total:
        raise _interrupted(work, stop, done)
    return Written(total, failed)


def _resumed(work: _Work) -> journal.Kept:
    """The answers that are kept of a job that was begun."""
    _check_same(work)
    path, total = work.folder / journal.ANSWERS, len(work.sources)
    found = journal.check_answers(path, work.sources)
    if found.damaged:
        work.progress.say(f"note: line {found.number + 1:,} of {path} is damaged; all from there on is answered again")
    kept = journal.check_answers(path, work.sources, work.predictor.restart(found.number, total))
    work.progress.say(f"continuing {work.out}: {kept.number:,} of {total:,} pictures are answered")
    return kept


def _check_same(work: _Work) -> None:
    """Raises UsageError, with the difference, where the job is another one than was begun."""
    job = _job(work)
    if found := journal.compare(work.folder, job, work.sources):
        raise UsageError(
            f"{printable(str(work.out))} was begun otherwise:" + "".join(f"\n  {line}" for line in found),
            hint=f"ask as it was begun, or start over: remove {printable(str(work.folder))}",
        )
    for line in journal.other_conditions(work.folder, job):
        work.progress.say(f"note: {line}; the last digit of an answer can differ")


def _published(work: _Work, stop: StopRequest) -> None:
    """The answers get their form and their place."""
    name = journal.ANSWERS
    if work.format == PARQUET:
        name = journal.OUTPUT
        write_parquet(_rows(work, stop), work.folder / name, schema(**dict.fromkeys(work.predictor.told, True)))
    if (work.folder / name).exists():
        journal.publish(work.folder, name, work.out)
    journal.remove(work.folder)


def _rows(work: _Work, stop: StopRequest) -> Iterator[dict[str, Any]]:
    with (work.folder / journal.ANSWERS).open("rb") as lines:
        for line in lines:
            if stop.number:
                raise _interrupted(work, stop, len(work.sources))
            yield read_json(line)


def _interrupted(work: _Work, stop: StopRequest, done: int) -> Interrupted:
    kept = f"{done:,} of {len(work.sources):,} pictures are answered and kept" if done else "nothing was answered yet"
    return Interrupted(f"stopped: {kept}", signal_number=stop.number, hint=f"continue with: {work.again}")


def _job(work: _Work) -> dict[str, Any]:
    """What is asked for, in plain values. The Run's card has its temperature, thresholds, classes and geometry."""
    predictor, files = work.predictor, work.predictor.run.card.files
    run = {CARD: sha256_of(predictor.run.path / CARD), ONNX: files.get(ONNX), REFERENCE: files.get(REFERENCE)}
    backend, name = predictor.choice.name, None
    if predictor.artifact is not None:  # its card records the hashes of all its files
        name = predictor.artifact.card.name
        run[f"{ARTIFACTS}/{name}"] = sha256_of(predictor.artifact.path / ARTIFACT_CARD)
    return {
        "pictures": len(work.sources),
        "run": run,
        "options": {"--format": work.format, "--top": work.top, "--artifact": name, "--backend": backend},
        "folder": None if all(source.is_absolute() for source in work.sources) else str(Path.cwd()),
        "conditions": {
            "resight": __version__,
            **{one: BACKENDS[one].version for one in _backends(predictor)},
            "--batch": predictor.batch,
            "--threads": predictor.threads,
        },
    }


def _backends(predictor: Predictor) -> list[str]:
    """What computes: one, or those of an adaptive artefact's graphs."""
    if predictor.choice.name in BACKENDS or predictor.artifact is None:
        return [predictor.choice.name]
    about = predictor.artifact.card.adaptive
    return sorted({graph["backend"] for graph in about.get("routes") or about["graphs"]})


def _files(ready: Ready) -> list[Path]:
    files = [source for source in ready.sources if isinstance(source, Path)]
    if len(files) != len(ready.sources):
        raise UsageError("pictures in memory have no names to go on by", hint="give files, folders or patterns")
    return files


def journal_line(answer: Prediction) -> bytes:
    """As ``--format jsonl`` writes it."""
    return (dump_json(plain(answer)) + "\n").encode()
