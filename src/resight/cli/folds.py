"""``resight crossval``: the options of ``train`` that hold for every fold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli.options import (
    Balance,
    Channels,
    Data,
    Device,
    Freeze,
    ImageSize,
    Json,
    LayerDecay,
    Memory,
    Model,
    Precision,
    Rate,
    Recipe,
    Seed,
    Settings,
    SkipBad,
    Teacher,
    UpdateSize,
    Weights,
    Workers,
    pairs,
    print_json,
)


def crossval(
    data: Data,
    folds: Annotated[int, typer.Option(min=2, help="Trainings; each is tested on another part of the pictures.")] = 5,
    model: Model = None,
    weights: Weights = None,
    teacher: Teacher = None,
    balance: Balance = None,
    recipe: Recipe = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pictures, in each fold.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock time of all folds together: 90s, 20m, 2h.")] = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    batch: UpdateSize = None,
    memory: Memory = None,
    lr: Rate = None,
    freeze: Freeze = None,
    layer_decay: LayerDecay = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
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
        channels=channels,
        batch=batch,
        memory=memory,
        lr=lr,
        freeze=freeze,
        layer_decay=layer_decay,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad or None,
    )
    if json_:
        print_json(result.content)
    else:
        typer.echo(result.path)
