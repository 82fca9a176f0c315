"""Commands for pictures without labels: thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli.options import (
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
    Weights,
    Workers,
    pairs,
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
