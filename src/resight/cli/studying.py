"""``resight study``: what a shortcut changes; thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resight.cli.options import (
    Data,
    Device,
    ImageSize,
    Json,
    Precision,
    Recipe,
    RunOrTag,
    Settings,
    SkipBad,
    Workers,
    pairs,
    print_json,
)
from resight.errors import UsageError

app = typer.Typer(help="Why shortcuts help: the papers' experiments, on your data.", no_args_is_help=True)


@app.command("depth")
def depth(
    data: Data,
    depths: Annotated[str | None, typer.Option(metavar="20,32,44,56", help="Layers; two or more depths.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each net; default 1.")] = None,
    end_seeds: Annotated[int | None, typer.Option(min=0, help="Of the first and last depth; default 3.")] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Also change one thing: shortcut-B, shortcut-D, zero-gamma, no-batchnorm, preact, stochastic-depth; "
            "repeatable.",
        ),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="A short schedule: minutes on two cores.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of each training; default: 64,000.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Instead: passes over the training pictures.")] = None,
    pictures: Annotated[
        int | None, typer.Option(min=0, help="At most so many, of each part its share; 0: all, the default.")
    ] = None,
    recipe: Recipe = None,
    image_size: ImageSize = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures in one update.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, for the whole batch.")] = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path | None, typer.Option(help="The study's folder; one that is there goes on.")] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Plain against residual nets by depth (He et al. 2015, §4.2): Runs, and one page. Same command: go on."""
    from resight.commands.study import study_depth

    found = study_depth(
        data,
        depths=None if depths is None else _layers(depths),
        seeds=seeds,
        end_seeds=end_seeds,
        ablate=ablate or (),
        small=small,
        steps=steps,
        pictures=pictures,
        out=out,
        set=pairs(settings),
        epochs=epochs,
        recipe=recipe,
        image_size=image_size,
        batch=batch,
        lr=lr,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad,
    )
    show(found, json_)


@app.command("shortcuts")
def shortcuts(
    run: RunOrTag,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled pictures; default: those that the Run was trained with.")
    ] = None,
    part: Annotated[str, typer.Option(help="val, test or train.")] = "val",
    pictures: Annotated[int, typer.Option(min=10, help="At most so many.")] = 500,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("shortcuts.html"),
    json_: Json = False,
) -> None:
    """What each block of a trained network adds, what is lost without it, what each stage sees and knows."""
    from resight.commands.study_shortcuts import study_shortcuts

    show(study_shortcuts(run, data, part=part, pictures=pictures, out=out, say=told), json_)


def told(text: str) -> None:
    """Progress, to stderr."""
    typer.echo(text, err=True)


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--depths is {text!r}; expected whole numbers", hint="for example --depths 20,56") from None


def show(found: Any, json_: bool) -> None:
    """What a command found, to stdout."""
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())
