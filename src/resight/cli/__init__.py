"""The command line: thin commands over ``resight.commands``. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from resight import __version__
from resight.cli import adapting, answering, exporting, folds, making, searching, serving, studying, unlabelled
from resight.errors import ResightError

app = typer.Typer(
    name="resight",
    help="A folder of labelled images becomes a ResNet classifier that people can trust and ship.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., Any]] = {
    "doctor": making.doctor,
    "preview": making.preview,
    "advise": making.advise,
    "train": making.train,
    "pretrain": unlabelled.pretrain,
    "crossval": folds.crossval,
    "resume": making.resume,
    "tune": searching.tune,
    "lr-find": searching.lr_find,
    "import": making.import_,
    "eval": answering.eval_,
    "predict": answering.predict,
    "explain": answering.explain,
    "embed": answering.embed,
    "suggest": unlabelled.suggest,
    "export": exporting.export,
    "adapt": adapting.adapt,
    "bench": answering.bench,
    "serve": serving.serve,
    "models": making.models,
    "cache": making.cache,
    "demo": making.demo,
}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"resight {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(studying.app, name="study")


def main() -> None:
    """Runs the command line; errors become one message and their exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console of another encoding must not make an answer fail
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ResightError as error:
        from resight.images import printable

        lines = f"error: {error}".split("\n")
        typer.echo("\n".join(printable(line, 2000) for line in lines), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
