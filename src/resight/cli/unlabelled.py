"""Commands for pictures without labels: thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli.options import (
    Backend,
    Channels,
    Device,
    ImageSize,
    Json,
    Model,
    Precision,
    Rate,
    Seed,
    Settings,
    SkipBad,
    Threads,
    Weights,
    Workers,
    pairs,
    print_json,
    say_unreadable,
    show_run,
)

Pictures = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A folder of pictures, flat or nested, or any data set: labels play no part."),
]


def pretrain(
    data: Pictures,
    method: Annotated[str, typer.Option(help="How: simclr, byol, fastsiam or dino.")] = "simclr",
    model: Model = None,
    weights: Weights = None,
    crops: Annotated[int | None, typer.Option(min=1, help="How long: crops seen in all; default 1,000,000.")] = None,
    epochs: Annotated[float | None, typer.Option(help="How long, in passes over the pictures, instead.")] = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Pictures in one update; each has several views.")] = None,
    lr: Rate = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Folders are no classes.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The directory of the Run; default: runs/DATA-MODEL-METHOD-N.")
    ] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Learn from pictures without labels; `resight train --weights RUN` goes on with the few there are."""
    from resight.commands.pretrain import pretrain

    run = pretrain(
        data,
        method=method,
        model=model,
        weights=weights,
        crops=crops,
        epochs=epochs,
        image_size=image_size,
        channels=channels,
        batch=batch,
        lr=lr,
        seed=seed,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad,
        unlabelled=unlabelled,
        out=out,
        set=pairs(settings),
    )
    show_run(run, json_)


def suggest(
    data: Annotated[list[str], typer.Argument(metavar="PICTURES…", help="Files, folders, patterns.")],
    weights: Annotated[str, typer.Option(metavar="RUN|TAG", help="What describes pictures: a pretrained Run, or any.")],
    count: Annotated[int, typer.Option(min=1, help="How many to choose.")] = 100,
    labelled: Annotated[
        list[str] | None, typer.Option(metavar="PICTURES", help="Pictures that have labels already; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of how pictures are grouped.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write a table to this CSV file.")] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Which pictures to label next: diverse and typical ones, or such as a trained Run is unsure of."""
    from resight.commands import suggest as command
    from resight.images import printable

    found = command.suggest(
        data, weights=weights, count=count, labelled=labelled, seed=seed, out=out, backend=backend, threads=threads
    )
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo("\n".join(command.table(found.found)))
    typer.echo(f"{len(found.found):,} of {found.pictures:,} pictures: {found.how}", err=True)
    if out is not None:
        typer.echo(f"written: {printable(str(out))}", err=True)
    say_unreadable(found.errors)
