"""`resight export`: thin, over ``resight.commands.export``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from resight.cli.options import Json, RunOrTag, Threads, print_json
from resight.errors import UsageError


def export(
    run: RunOrTag,
    to: Annotated[str | None, typer.Option(metavar="TARGET", help="onnx, openvino, program, triton or docker.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the artefact; default: the target's, for int8 with -int8.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize, for onnx or openvino.")] = False,
    max_drop: Annotated[
        float | None, typer.Option(metavar="POINTS", help="With --int8: most that accuracy may lose; default: 0.5.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled pictures to compare with; default: the Run's validation part.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Any pictures to compare with, instead.")] = None,
    pictures: Annotated[
        int | None,
        typer.Option(min=1, help="Most pictures to compare with, default 1000; --int8: to calibrate, 300."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show what there is, and check its hashes.")] = False,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Another form of a Run, kept only if it answers the same on real pictures; else exit 1."""
    from resight.commands import export as command
    from resight.commands.quantize import quantize_run

    if list_ == (to is not None):
        raise UsageError("give either --to TARGET or --list")
    if max_drop is not None and not int8:
        raise UsageError("--max-drop has no effect without --int8")
    if list_:
        given = {"--int8": int8 or None, "--name": name, "--data": data, "--images": images, "--pictures": pictures}
        if wrong := [option for option, value in given.items() if value is not None]:
            raise UsageError(f"{wrong[0]} has no effect with --list")
        found = command.exported(run)
        if json_:
            print_json([one.to_dict() for one in found])
        else:
            typer.echo(command.table(found))
        if any(one.problem for one in found):
            raise typer.Exit(1)
        return
    say = partial(typer.echo, err=True)
    result: Any
    if int8:
        for option, value in (("--name", name), ("--images", images)):
            if value is not None:
                raise UsageError(f"{option} has no effect with --int8")
        result = quantize_run(
            run, to=to or "", max_drop=max_drop, data=data, pictures=pictures, threads=threads, say=say
        )
        text = result.told()  # the table was said already, as it is where nothing can be exported
    else:
        result = command.export(
            run, to or "", name=name, data=data, images=images, pictures=pictures, threads=threads, say=say
        )
        text = result.to_text()
    if json_:
        print_json(result.to_dict())
    else:
        typer.echo(text)
