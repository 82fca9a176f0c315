"""``resight crossval``: the options of ``train`` that hold for every fold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli.options import Data, ImageSize, Json, Model, Recipe, Seed, Settings, SkipBad, pairs, print_json


def crossval(
    data: Data,
    folds: Annotated[int, typer.Option(min=2, help="Trainings; each is tested on another part of the pictures.")] = 5,
    model: Model = None,
    weights: Annotated[str | None, typer.Option(metavar="none|TAG|PATH|RUN", help="Start from these weights.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Learn from this Run's answers, beside the labels.")
    ] = None,
    balance: Annotated[
        str | None, typer.Option(help="Classes of different size: none, weights, sampling, logit or focal.")
    ] = None,
    recipe: Recipe = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pictures, in each fold.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock time of all folds together: 90s, 20m, 2h.")] = None,
    image_size: ImageSize = None,
    batch: Annotated[str | None, typer.Option(metavar="N|auto", help="Pictures in one update.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, for the whole batch.")] = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that decode pictures.")] = None,
    skip_bad: SkipBad = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder for all Runs and the report; default: runs/DATA-crossval-N.")
    ] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Train and test on k folds: every picture is answered by a network that has not seen it. Same command: go on."""
    from resight.commands.crossval import crossval

    result = crossval(
        data,
        folds=folds,
        seed=seed,
        out=out,
        set=pairs(settings),
        model=model,
        weights=weights,
        teacher=teacher,
        balance=balance,
        recipe=recipe,
        epochs=epochs,
        budget=budget,
        image_size=image_size,
        batch=batch,
        lr=lr,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad or None,
    )
    if json_:
        print_json(result.content)
    else:
        typer.echo(result.path)
