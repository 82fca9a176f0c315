"""``resight predict``: where the answers go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.cli.options import again, format_of, say_backend
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.commands.predict import Ready
    from resight.commands.progress import Progress
    from resight.inference import Prediction


def answer_into(
    run: str,
    images: list[str],
    format: str | None,
    json_: bool,
    out: Path | None,
    *,
    resume: bool,
    top: int,
    **how: Any,
) -> tuple[int, int]:
    """Answers to stdout or into a file. Returns how many pictures there were, and how many could not be read."""
    from resight.commands.batch import ENDINGS, PARQUET, RESUMABLE, answer_all, check_job
    from resight.commands.outputs import check_outputs
    from resight.commands.predict import prepare
    from resight.commands.progress import Progress, on_stderr
    from resight.inference import FORMATS, write

    ending = ENDINGS.get(out.suffix.lower()) if out is not None and not json_ else None
    chosen = format_of(format or ending, json_, (*FORMATS, PARQUET))
    in_pieces = out is not None and chosen in RESUMABLE
    if chosen == PARQUET and out is None:
        raise UsageError("Parquet is no text for a terminal or a pipe", hint="name a file: --out answers.parquet")
    if resume and not in_pieces:
        what = f"this is {chosen}" if out else "there is no --out"
        raise UsageError(f"--resume is for --out FILE as {' or '.join(RESUMABLE)}; {what}")
    if out is not None and in_pieces:
        check_job(out, chosen, resume=resume, again=again("--resume"))
    check_outputs({"--out": out})
    ready = prepare(run, images, **how)
    say_backend(how["backend"], ready.predictor.choice)
    if out is None:
        return _written(ready, top, Progress(), lambda answers: write(answers, chosen, stream=sys.stdout))
    with on_stderr() as progress:
        if in_pieces:
            done = answer_all(ready, out, chosen, top=top, resume=resume, again=again("--resume"), progress=progress)
            return done.number, done.failed
        return _written(ready, top, progress, lambda answers: write(answers, chosen, out))


def _written(ready: Ready, top: int, progress: Progress, write: Any) -> tuple[int, int]:
    total, done, failed = len(ready.sources), 0, 0

    def counted() -> Iterator[Prediction]:
        nonlocal done, failed
        for answer in ready.predictor.predict(ready.sources, top):
            done, failed = done + 1, failed + (answer.error is not None)
            progress.show(done, failed)
            yield answer

    progress.start(done, total)
    write(counted())
    return total, failed
