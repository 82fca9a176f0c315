"""Arguments and options that several commands share, and how commands print."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resight.errors import UsageError

Data = Annotated[Path, typer.Argument(help="Folder of classes, split folders, CSV, idx or CIFAR binary files.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The directory that training made.")]
RunOrTag = Annotated[
    str, typer.Argument(metavar="RUN|TAG|WEIGHTS", help="A Run, a tag (resnet50.tv2_in1k) or a weights file.")
]
Model = Annotated[str | None, typer.Option(help="Name of the network; all of them: resight models.")]
AutoModel = Annotated[
    str | None, typer.Option(help="Name of the network, or auto: what `resight advise` says; all: resight models.")
]
Recipe = Annotated[str | None, typer.Option(help="How to train: quick, transfer, features, finetune, he2015-cifar, …")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the square that the network sees, in pixels.")]
Channels = Annotated[
    int | None, typer.Option(min=1, max=16, help="1 grey, 3 RGB, 4 with alpha, up to 16; default: what the files have.")
]
Weights = Annotated[str | None, typer.Option(metavar="none|TAG|PATH|RUN", help="Start from these weights.")]
Teacher = Annotated[Path | None, typer.Option(metavar="RUN", help="Learn from this Run's answers, beside the labels.")]
Balance = Annotated[
    str | None, typer.Option(help="Classes of different size: none, weights, sampling, logit or focal.")
]
UpdateSize = Annotated[str | None, typer.Option("--batch", metavar="N|auto", help="Pictures in one update.")]
Memory = Annotated[
    str | None, typer.Option(metavar="8G", help="The most memory that training may take; default: what is there.")
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate, for the whole batch.")]
Freeze = Annotated[
    str | None, typer.Option(metavar="PART", help="Keep the weights up to: stem, stage1 … stage4, backbone.")
]
LayerDecay = Annotated[
    float | None, typer.Option(help="Rate of each stage, as a share of the next one's; 1: all alike.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Threads that decode pictures.")]
Seed = Annotated[int | None, typer.Option(help="Seed of splits, initialisation, order and augmentation.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any field of the configuration; repeatable."),
]
Top = Annotated[int, typer.Option(min=1, help="Classes shown for each picture.")]
Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
OutFile = Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")]
Backend = Annotated[
    str, typer.Option(help="onnxruntime, openvino, or auto: the quickest by what `resight bench` stored.")
]
ArtifactName = Annotated[
    str | None, typer.Option("--artifact", metavar="NAME", help="Answer with what was exported under this name.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads that compute; default: all cores.")]
Batch = Annotated[
    int,
    typer.Option(
        min=1, help="Most pictures computed at a time, by each thread; fewer where all threads would not get some."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable pictures out, counted and recorded.")]


def say_unreadable(errors: Any) -> None:
    """Names pictures that could not be read, on stderr, and exits with 1 where there are some."""
    from resight.images import printable

    for error in errors:
        typer.echo(f"{printable(error.source)}: {printable(error.error or '')}", err=True)
    if errors:
        raise typer.Exit(1)


def say_backend(wanted: str, choice: Any) -> None:
    """Of ``auto``, to stderr: which backend answers and why."""
    from resight.images import printable

    if choice.note:
        typer.echo(f"note: {printable(choice.note, 2000)}", err=True)
    if wanted == "auto":
        typer.echo(f"backend: {choice.name}, {choice.reason}", err=True)


def show_run(run: Any, json_: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one speaks
    if json_:
        print_json(json.loads(run.card.to_json()))
    else:
        typer.echo(run.path)


def print_json(value: Any) -> None:
    """Writes JSON for another program to stdout: as UTF-8, whatever the encoding of the terminal."""
    from resight.inference import dump_json, send

    send([dump_json(value, indent=2) + "\n"], sys.stdout)


def format_of(name: str | None, json_: bool, known: tuple[str, ...]) -> str:
    if json_ and name not in (None, "json"):
        raise UsageError(f"--json and --format {name} contradict each other")
    chosen = "json" if json_ else name or "table"
    if chosen not in known:
        raise UsageError(f"there is no format '{chosen}'", hint=f"formats: {', '.join(known)}")
    return chosen


def again(option: str) -> str:
    """The command that was called, with an option more."""
    words = sys.argv[1:] if option in sys.argv else [*sys.argv[1:], option]
    command = shlex.join(["resight", *words])
    return command if len(command) <= 1000 else f"the same command with {option}"  # the shell made names of a pattern


def pairs(settings: list[str] | None) -> dict[str, str]:
    pairs = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {setting}: expected SECTION.FIELD=VALUE, e.g. optimizer.clip=1")
        pairs[name.strip()] = value.strip()
    return pairs


def numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: expected numbers separated by commas") from None
