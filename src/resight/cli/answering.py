"""Commands that answer with a Run: thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resight.cli.options import (
    ArtifactName,
    Backend,
    Batch,
    Json,
    OutFile,
    RunOrTag,
    SkipBad,
    Threads,
    Top,
    format_of,
    print_json,
    say_backend,
    say_unreadable,
)
from resight.errors import UsageError


def eval_(
    run: RunOrTag,
    data: Annotated[Path | None, typer.Argument(help="Labelled pictures; default: the Run's own data.")] = None,
    part: Annotated[str | None, typer.Option(help="train, val, test or all; default: test.")] = None,
    format: Annotated[str | None, typer.Option(help="table or json.")] = None,
    json_: Json = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write a CSV: each picture, true and predicted class.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write a page, ./report.html.")] = False,
    report_to: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the page, to this file.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN2", help="A second Run, on the same pictures: which one is better?")
    ] = None,
    skip_bad: SkipBad = False,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also on corrupted pictures: 15 kinds, 5 severities.")
    ] = False,
    corruption_kinds: Annotated[
        str | None, typer.Option(metavar="KIND,KIND…", help="With --corruptions: only these kinds.")
    ] = None,
    corruption_pictures: Annotated[
        str | None, typer.Option(metavar="N|all", help="With --corruptions: of so many pictures; default: 1000.")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also with test-time augmentation: mirrored, and its cost.")
    ] = False,
    tta_shifts: Annotated[bool, typer.Option("--tta-shifts", help="With --tta: shifted too, ten views.")] = False,
    artifact: ArtifactName = None,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """How good a Run is: accuracy, per-class figures, confusions, each with a 95 % interval."""
    from resight.commands.eval import evaluate_run

    chosen = format_of(format, json_, ("table", "json"))
    if corruption_kinds is not None and not corruptions:
        raise UsageError("--corruption-kinds has no effect without --corruptions")
    if tta_shifts and not tta:
        raise UsageError("--tta-shifts has no effect without --tta")
    if report and report_to is not None:
        raise UsageError("--report and --report-to contradict each other: one of them says where the page goes")
    result = evaluate_run(
        run,
        data,
        part=part,
        skip_bad=skip_bad,
        predictions=predictions,
        report=report_to or (Path("report.html") if report else None),
        against=against,
        artifact=artifact,
        backend=backend,
        threads=threads,
        batch=batch,
        corruptions=corruptions if corruption_kinds is None else corruption_kinds.split(","),
        corruption_pictures=corruption_pictures,
        tta=("flip+shift" if tta_shifts else "flip") if tta else None,
        say=lambda line: typer.echo(line, err=True),
    )
    say_backend(backend, result.choice)
    if chosen == "json":
        print_json(result.to_dict())
    else:
        typer.echo(result.to_text())


def predict(
    run: RunOrTag,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB…", help="Pictures to answer for.")],
    top: Top = 5,
    format: Annotated[
        str | None,
        typer.Option(help="table, json, jsonl, csv or parquet; default: what --out ends in, else table."),
    ] = None,
    json_: Json = False,
    out: OutFile = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an --out that was begun and not finished (jsonl and parquet)."),
    ] = False,
    artifact: ArtifactName = None,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """What is in these pictures. Exits with 1 when some of them could not be read."""
    from resight.cli.batch import answer_into

    opened: dict[str, Any] = {"artifact": artifact, "backend": backend, "threads": threads, "batch": batch}
    total, failed = answer_into(run, images, format, json_, out, resume=resume, top=top, **opened)
    if failed:
        typer.echo(f"{failed:,} of {total:,} pictures could not be read", err=True)
        raise typer.Exit(1)


def embed(
    run: RunOrTag,
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE|DIR|GLOB…", help="Pictures.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the embeddings to this .npz or .parquet file.")] = None,
    similar_to: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Show which are most like it; without others, of the Run's training data."),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many are shown; default: 5.")] = None,
    format: Annotated[str | None, typer.Option(help="table or json, for --similar-to.")] = None,
    json_: Json = False,
    artifact: ArtifactName = None,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """Embeddings of pictures, or which are alike by them. Exits with 1 when some could not be read."""
    from resight.commands import embed as command

    chosen = format_of(format, json_, ("table", "json"))
    if (out is None) == (similar_to is None):
        raise UsageError("give either --out FILE or --similar-to IMAGE")
    if out is not None and (top is not None or format is not None or json_):
        raise UsageError("--top, --format and --json belong to --similar-to")
    if out is not None and not images:
        raise UsageError("no pictures were given", hint="name files, folders or patterns")
    if out is not None:
        command.check_out(out)
        found = command.embed(run, images or [], artifact=artifact, backend=backend, threads=threads, batch=batch)
        found.save(out)
        errors = found.errors
        say_backend(backend, found.choice)
        typer.echo(f"{len(found.sources):,} embeddings of {found.embeddings.shape[1]:,} numbers", err=True)
    else:
        result = command.similar(
            run,
            similar_to or "",
            images or None,
            top=top or 5,
            artifact=artifact,
            backend=backend,
            threads=threads,
            batch=batch,
        )
        errors = result.errors
        say_backend(backend, result.choice)
        if chosen == "json":
            print_json([row.to_dict() for row in result.found])
        else:
            for line in command.table(result.found):
                typer.echo(line)
    say_unreadable(errors)


def explain(
    run: RunOrTag,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE|DIR|GLOB]…", help="Pictures; none only with --inside.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Show the evidence for this class; repeatable.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="cam; with PyTorch gradcam++, integrated-gradients, smoothgrad or occlusion.")
    ] = "cam",
    top: Annotated[int | None, typer.Option(min=1, help="Most probable classes shown; default: 3.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and index.html.")] = Path("explained"),
    faithful: Annotated[
        bool, typer.Option("--faithfulness/--no-faithfulness", help="Compare each map with random maps.")
    ] = True,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare each map with those of networks with random weights.")
    ] = False,
    inside: Annotated[bool, typer.Option("--inside", help="Also show first filters and feature maps.")] = False,
    compare: Annotated[
        int | None,
        typer.Option(
            min=0, help="Training pictures looked through for the nearest, at most; 0: none; default: all kept."
        ),
    ] = None,
    artifact: ArtifactName = None,
    backend: Backend = "auto",
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Where in a picture the network found its answer, and whether that may be relied on."""
    from resight.commands.explain import explain
    from resight.images import printable

    result = explain(
        run,
        images or (),
        classes=classes or (),
        method=method,
        top=top,
        out=out,
        faithful=faithful,
        sanity=sanity,
        inside=inside,
        compare=compare,
        artifact=artifact,
        backend=backend,
        threads=threads,
        say=lambda text: typer.echo(text, err=True),
    )
    for note in result.notes:
        typer.echo(f"note: {printable(note, 2000)}", err=True)
    if json_:
        print_json(result.to_dict())
    else:
        typer.echo(result.to_text())
    if result.errors:
        typer.echo(f"{len(result.errors)} of {len(result.items)} pictures could not be read", err=True)
        raise typer.Exit(1)


def bench(
    run: RunOrTag,
    threads: Threads = None,
    batch: Batch = 8,
    json_: Json = False,
) -> None:
    """How fast a Run answers on this machine, with each backend; stored for --backend auto."""
    from resight.commands.bench import bench

    typer.echo("measuring each backend in turn, some seconds each …", err=True)
    result = bench(run, threads=threads, batch=batch)
    if json_:
        print_json(result.to_dict())
    else:
        typer.echo(result.to_text())
