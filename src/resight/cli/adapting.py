"""`resight adapt`: thin, over ``resight.commands.adapt``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from resight.cli.options import Json, RunPath, Threads, print_json


def adapt(
    run: RunPath,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled pictures with a validation part; default: the Run's own data.")
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="cascade|resolution|blocks|patches", help="What easy pictures are spared.")
    ] = "cascade",
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="RUN[:ARTIFACT]", help="A small Run to ask first, or its artefact; several are tried."
        ),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Ask this artefact of RUN, such as openvino-int8, for the whole one; with --by blocks one of int8.",
        ),
    ] = None,
    size: Annotated[
        list[int] | None, typer.Option(metavar="PX", help="With --by resolution: a smaller size to try; repeatable.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="With --by blocks or patches: passes of the policy over the training part; default: 10 or 30."
        ),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(min=0, help="With --by blocks or patches: what a wrong answer costs; default: 5 or 0.5."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --by blocks or patches: of the policy's training.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Most that accuracy may lose on validation; default: 0.5."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the artefact; default: what --by says.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="What computes the Runs' own graphs: onnxruntime (default) or openvino.")
    ] = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Compute only what a picture needs: kept if it is faster and loses little; else exit 1."""
    from resight.commands.adapt import adapt as command

    found = command(
        run,
        data,
        by=by,
        with_=with_ or (),
        artifact=artifact,
        sizes=size,
        epochs=epochs,
        penalty=penalty,
        seed=seed,
        max_drop=max_drop,
        name=name,
        backend=backend,
        threads=threads,
        say=partial(typer.echo, err=True),
    )
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.told())
