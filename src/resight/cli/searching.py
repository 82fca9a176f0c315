"""Commands that search for settings: thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resight.cli.options import (
    Data,
    Device,
    ImageSize,
    Json,
    Model,
    Precision,
    Recipe,
    Seed,
    Settings,
    SkipBad,
    Weights,
    Workers,
    pairs,
    print_json,
)

Pictures = Annotated[int | None, typer.Option("--batch", min=1, help="Pictures in one update.")]


def tune(
    data: Data,
    model: Model = None,
    weights: Weights = None,
    recipe: Recipe = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="lr,decay,augment,mixup,size", help="What is searched; default: all."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all; default 20, without --budget.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole search: 30m, 2h.")] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Repeat the best three with so many other seeds.")] = 0,
    objective: Annotated[str, typer.Option(help="accuracy or loss, of the validation part.")] = "accuracy",
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pictures, of each trial.")] = None,
    image_size: ImageSize = None,
    batch: Pictures = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate; searched around it with --space lr, else fixed.")] = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path | None, typer.Option(help="The study's directory; one that is there goes on.")] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Search for better settings: every trial a real training, the best one a sealed Run."""
    from resight.commands.tune import tune

    options = {
        "model": model,
        "weights": weights,
        "recipe": recipe,
        "epochs": epochs,
        "image_size": image_size,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "device": device,
        "precision": precision,
        "workers": workers,
        "skip_bad": skip_bad,
    }
    groups = None if space is None else [name.strip() for name in space.split(",") if name.strip()]
    found = tune(
        data,
        space=groups,
        trials=trials,
        budget=budget,
        seeds=seeds,
        objective=objective,  # type: ignore[arg-type]  # checked there
        out=out,
        set=pairs(settings),
        **options,
    )
    show(found, json_)


def lr_find(
    data: Data,
    model: Model = None,
    weights: Weights = None,
    recipe: Recipe = None,
    low: Annotated[float | None, typer.Option(help="First rate; default: the recipe's / 1,000.")] = None,
    high: Annotated[float | None, typer.Option(help="Last rate; default: the recipe's × 100.")] = None,
    updates: Annotated[int, typer.Option(min=10, help="Updates from the first to the last.")] = 100,
    image_size: ImageSize = None,
    batch: Pictures = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option(help="The PNG or SVG to draw.")] = Path("lr.png"),
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Draw how the loss answers to a rising learning rate, and suggest one."""
    from resight.commands.lr_find import lr_find

    options = {
        "model": model,
        "weights": weights,
        "recipe": recipe,
        "image_size": image_size,
        "batch": batch,
        "seed": seed,
        "device": device,
        "precision": precision,
        "workers": workers,
        "skip_bad": skip_bad,
    }
    found = lr_find(data, low=low, high=high, updates=updates, out=out, set=pairs(settings), **options)
    show(found, json_)


def show(found: Any, json_: bool) -> None:
    """What a command found, to stdout."""
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())
