"""Commands that look at data and make Runs: thin, over ``resight.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import searching
from resight.cli.options import (
    AutoModel,
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
    RunPath,
    Seed,
    Settings,
    SkipBad,
    Teacher,
    UpdateSize,
    Weights,
    Workers,
    numbers,
    pairs,
    print_json,
    show_run,
)
from resight.errors import UsageError


def doctor(
    data: Data,
    run: Annotated[
        Path | None, typer.Option(help="A Run trained on it, or a cross-validation: also labels that it contradicts.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="RUN|TAG", help="By whose embeddings pictures are alike, or unlike all."),
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="There are no labels.")] = False,
    page: Annotated[Path | None, typer.Option(help="Also write a page with pictures to this HTML file.")] = None,
    write_manifest: Annotated[
        Path | None, typer.Option(help="Also write the cleaned data set to this CSV file; nothing is deleted.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there are errors or warnings.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that decode; default: all cores.")] = None,
    json_: Json = False,
) -> None:
    """What is wrong with a data set: bad files, duplicates, leaks, doubtful labels."""
    from resight.commands.doctor import examine, on_terminal
    from resight.images import printable

    with on_terminal() as progress:
        found = examine(
            data,
            run=run,
            weights=weights,
            unlabelled=unlabelled,
            page=page,
            write_manifest=write_manifest,
            threads=threads,
            progress=progress,
        )
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())
    for path in filter(None, (page, write_manifest)):
        typer.echo(f"written: {printable(str(path))}", err=True)
    if strict and not found.sound:
        raise typer.Exit(1)


def preview(
    data: Data,
    recipe: Recipe = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    seed: Seed = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    settings: Settings = None,
) -> None:
    """Write one augmented batch as a picture: what the network will see."""
    from resight.commands.preview import preview

    typer.echo(
        preview(data, recipe=recipe, image_size=image_size, channels=channels, seed=seed, out=out, set=pairs(settings))
    )


def advise(
    data: Data,
    budget: Annotated[str | None, typer.Option(help="What training may take: 90s, 20m, 2h.")] = None,
    latency: Annotated[str | None, typer.Option(help="What answering one picture may take: 20ms.")] = None,
    size: Annotated[str | None, typer.Option(help="How large model.onnx may be: 25MB.")] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="none|TAG|PATH|RUN", help="Only from these weights, or only from scratch.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only these networks, with commas between them.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Only these sizes in pixels, with commas between them.")
    ] = None,
    recipe: Recipe = None,
    seconds: Annotated[float, typer.Option(help="What measuring may take, about.")] = 60.0,
    plot: Annotated[Path | None, typer.Option(help="Also draw all candidates: a .png or .svg file.")] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Which ResNet, size, weights and recipe: measured on this machine, for these data."""
    from resight.commands.advise import advise, to_stderr
    from resight.images import printable

    found = advise(
        data,
        budget=budget,
        latency=latency,
        size=size,
        weights=weights,
        model=model,
        image_size=image_size,
        recipe=recipe,
        seconds=seconds,
        plot=plot,
        set=pairs(settings),
        say=to_stderr,
    )
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())
    if plot is not None:
        typer.echo(f"written: {printable(str(plot))}", err=True)


def train(
    data: Data,
    model: AutoModel = None,
    weights: Weights = None,
    teacher: Teacher = None,
    balance: Balance = None,
    from_run: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Continue this Run with new classes or new pictures.")
    ] = None,
    keep_absent: Annotated[
        bool, typer.Option("--keep-absent", help="With --from: also classes of the Run that have no pictures here.")
    ] = False,
    recipe: Recipe = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pictures.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock time instead of epochs: 90s, 20m, 2h.")] = None,
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
    split: Annotated[
        Path | None, typer.Option(metavar="RUN|FILE", help="Split exactly as this Run or split.csv.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The Run's directory; default: runs/DATA-MODEL-N.")] = None,
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Train a classifier; the result is a sealed Run."""
    from resight.commands.train import train

    run = train(
        data,
        model=model,
        weights=weights,
        teacher=teacher,
        balance=balance,
        from_run=from_run,
        keep_absent=keep_absent,
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
        seed=seed,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad,
        split=split,
        out=out,
        set=pairs(settings),
    )
    show_run(run, json_)


def resume(run: RunPath, json_: Json = False) -> None:
    """Continue an interrupted training, search or study, exactly where it was saved."""
    from resight.commands import study
    from resight.commands.resume import resume
    from resight.commands.tune import go_on, is_study

    if is_study(run):
        searching.show(go_on(run), json_)
    elif study.is_depth_study(run):
        searching.show(study.go_on(run), json_)
    else:
        show_run(resume(run), json_)


def import_(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS|TAG", help="A file, a Run or a tag.")],
    model: Model = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names in the order of the outputs: a text file or a data set.")
    ] = None,
    image_size: ImageSize = None,
    crop_ratio: Annotated[float | None, typer.Option(help="Side of the crop / shorter side resized.")] = None,
    mean: Annotated[str | None, typer.Option(help="Mean of pixels in [0, 1], e.g. 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation, likewise.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Option of the network: stem=tiny.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The Run's directory; default: runs/NAME-N.")] = None,
    json_: Json = False,
) -> None:
    """Make a Run of weights trained elsewhere."""
    from resight.commands.import_ import import_weights

    run = import_weights(
        weights,
        model=model,
        options=pairs(options),
        classes=classes,
        image_size=image_size,
        crop_ratio=crop_ratio,
        mean=numbers("--mean", mean),
        std=numbers("--std", std),
        out=out,
    )
    show_run(run, json_)


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that match, e.g. 'resnet5*'.")] = "*",
    plain: Annotated[bool, typer.Option("--plain", help="Also the networks without shortcuts.")] = False,
    json_: Json = False,
) -> None:
    """The family: parameters, multiply-accumulates, weights that can be had by name."""
    from dataclasses import asdict

    from resight.commands.models import models, table

    rows = list(models(pattern, plain=plain))
    if not rows:
        raise UsageError(f"no model matches '{pattern}'", hint="all of them: resight models")
    if json_:
        print_json([asdict(row) for row in rows])
    else:
        for line in table(rows):
            typer.echo(line)


def cache(
    clear: Annotated[
        str | None, typer.Option(metavar="KIND|all", help="Remove it: pictures, weights, data, runs, bench or all.")
    ] = None,
    json_: Json = False,
) -> None:
    """What Resight keeps to be quicker next time, with sizes; removing it."""
    from resight.commands.cache import cache, table

    content = cache(clear)
    if json_:
        print_json(content.to_dict())
    else:
        for line in table(content):
            typer.echo(line)


def demo(out: Annotated[Path, typer.Option(help="Where to put everything.")] = Path("runs/demo")) -> None:
    """The whole way in about a minute, on real data that a dependency carries."""
    from resight.commands.demo import demo

    typer.echo(demo(out).path)
