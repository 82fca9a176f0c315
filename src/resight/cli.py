"""The command line: thin commands over ``resight.commands``. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resight import __version__
from resight.errors import ResightError, UsageError

app = typer.Typer(
    name="resight",
    help="A folder of labelled images becomes a ResNet classifier that people can trust and ship.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[Path, typer.Argument(help="Folder of classes, split folders, CSV, idx or CIFAR binary files.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The directory that training made.")]
RunOrTag = Annotated[
    str, typer.Argument(metavar="RUN|TAG|WEIGHTS", help="A Run, a tag (resnet50.tv2_in1k) or a weights file.")
]
Model = Annotated[str | None, typer.Option(help="Name of the network; all of them: resight models.")]
Recipe = Annotated[str | None, typer.Option(help="How to train: quick, finetune, he2015-cifar, …")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the square that the network sees, in pixels.")]
Seed = Annotated[int | None, typer.Option(help="Seed of splits, initialisation, order and augmentation.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any field of the configuration; repeatable."),
]
Top = Annotated[int, typer.Option(min=1, help="Classes shown for each picture.")]
Format = Annotated[str | None, typer.Option(help="table, json, jsonl or csv.")]
Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
OutFile = Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")]
Backend = Annotated[
    str, typer.Option(help="onnxruntime, openvino, or auto: the quickest by what `resight bench` stored.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads that compute; default: all cores.")]
Batch = Annotated[
    int,
    typer.Option(
        min=1, help="Most pictures computed at a time, by each thread; fewer where all threads would not get some."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable pictures out, counted and recorded.")]


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


@app.command()
def train(
    data: Data,
    model: Model = None,
    weights: Annotated[str | None, typer.Option(metavar="none|TAG|PATH|RUN", help="Start from these weights.")] = None,
    recipe: Recipe = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pictures.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock time instead of epochs: 90s, 20m, 2h.")] = None,
    image_size: ImageSize = None,
    batch: Annotated[str | None, typer.Option(metavar="N|auto", help="Pictures in one update.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, for the whole batch.")] = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that decode pictures.")] = None,
    skip_bad: SkipBad = False,
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
        recipe=recipe,
        epochs=epochs,
        budget=budget,
        image_size=image_size,
        batch=batch,
        lr=lr,
        seed=seed,
        device=device,
        precision=precision,
        workers=workers,
        skip_bad=skip_bad,
        out=out,
        set=_pairs(settings),
    )
    _show_run(run, json_)


@app.command()
def resume(run: RunPath, json_: Json = False) -> None:
    """Continue an interrupted training exactly where it was saved."""
    from resight.commands.resume import resume

    _show_run(resume(run), json_)


@app.command("import")
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
        options=_pairs(options),
        classes=classes,
        image_size=image_size,
        crop_ratio=crop_ratio,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        out=out,
    )
    _show_run(run, json_)


@app.command()
def preview(
    data: Data,
    recipe: Recipe = None,
    image_size: ImageSize = None,
    seed: Seed = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    settings: Settings = None,
) -> None:
    """Write one augmented batch as a picture: what the network will see."""
    from resight.commands.preview import preview

    typer.echo(preview(data, recipe=recipe, image_size=image_size, seed=seed, out=out, set=_pairs(settings)))


@app.command("eval")
def eval_(
    run: RunOrTag,
    data: Annotated[Path | None, typer.Argument(help="Labelled pictures; default: the Run's own data.")] = None,
    part: Annotated[str | None, typer.Option(help="train, val, test or all; default: test.")] = None,
    format: Annotated[str | None, typer.Option(help="table or json.")] = None,
    json_: Json = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write a CSV: each picture, true and predicted class.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write a page, ./report.html.")] = False,
    report_to: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the page, to this file.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN2", help="A second Run, on the same pictures: which one is better?")
    ] = None,
    skip_bad: SkipBad = False,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also on corrupted pictures: 15 kinds, 5 severities.")
    ] = False,
    corruption_kinds: Annotated[
        str | None, typer.Option(metavar="KIND,KIND…", help="With --corruptions: only these kinds.")
    ] = None,
    corruption_pictures: Annotated[
        str | None, typer.Option(metavar="N|all", help="With --corruptions: of so many pictures; default: 1000.")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also with test-time augmentation: mirrored, and its cost.")
    ] = False,
    tta_shifts: Annotated[bool, typer.Option("--tta-shifts", help="With --tta: shifted too, ten views.")] = False,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """How good a Run is: accuracy, per-class figures, confusions, each with a 95 % interval."""
    from resight.commands.eval import evaluate_run

    chosen = _format(format, json_, ("table", "json"))
    if corruption_kinds is not None and not corruptions:
        raise UsageError("--corruption-kinds has no effect without --corruptions")
    if tta_shifts and not tta:
        raise UsageError("--tta-shifts has no effect without --tta")
    result = evaluate_run(
        run,
        data,
        part=part,
        skip_bad=skip_bad,
        predictions=predictions,
        report=report_to or (Path("report.html") if report else None),
        against=against,
        backend=backend,
        threads=threads,
        batch=batch,
        corruptions=corruptions if corruption_kinds is None else corruption_kinds.split(","),
        corruption_pictures=corruption_pictures,
        tta=("flip+shift" if tta_shifts else "flip") if tta else None,
        say=lambda line: typer.echo(line, err=True),
    )
    _say_backend(backend, result.choice)
    if chosen == "json":
        _print_json(result.to_dict())
    else:
        typer.echo(result.to_text())


@app.command()
def predict(
    run: RunOrTag,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB…", help="Pictures to answer for.")],
    top: Top = 5,
    format: Format = None,
    json_: Json = False,
    out: OutFile = None,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """What is in these pictures. Exits with 1 when some of them could not be read."""
    from resight.commands.predict import prepare
    from resight.inference import FORMATS, write

    chosen = _format(format, json_, tuple(FORMATS))
    ready = prepare(run, images, backend=backend, threads=threads, batch=batch)
    _say_backend(backend, ready.predictor.choice)
    failed = 0

    def counted() -> Any:
        nonlocal failed
        for prediction in ready.predictor.predict(ready.sources, top):
            failed += prediction.error is not None
            yield prediction

    write(counted(), chosen, out, stream=None if out else sys.stdout)
    if failed:
        typer.echo(f"{failed} of {len(ready.sources)} pictures could not be read", err=True)
        raise typer.Exit(1)


@app.command()
def explain(
    run: RunOrTag,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE|DIR|GLOB]…", help="Pictures; none only with --inside.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Show the evidence for this class; repeatable.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="cam; with PyTorch gradcam++, integrated-gradients, smoothgrad or occlusion.")
    ] = "cam",
    top: Annotated[int | None, typer.Option(min=1, help="Most probable classes shown; default: 3.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and index.html.")] = Path("explained"),
    faithful: Annotated[
        bool, typer.Option("--faithfulness/--no-faithfulness", help="Compare each map with random maps.")
    ] = True,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare each map with those of networks with random weights.")
    ] = False,
    inside: Annotated[bool, typer.Option("--inside", help="Also show first filters and feature maps.")] = False,
    compare: Annotated[
        int | None,
        typer.Option(
            min=0, help="Training pictures looked through for the nearest, at most; 0: none; default: all kept."
        ),
    ] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Where in a picture the network found its answer, and whether that may be relied on."""
    from resight.commands.explain import explain
    from resight.images import printable

    result = explain(
        run,
        images or (),
        classes=classes or (),
        method=method,
        top=top,
        out=out,
        faithful=faithful,
        sanity=sanity,
        inside=inside,
        compare=compare,
        backend=backend,
        threads=threads,
        say=lambda text: typer.echo(text, err=True),
    )
    for note in result.notes:
        typer.echo(f"note: {printable(note, 2000)}", err=True)
    if json_:
        _print_json(result.to_dict())
    else:
        typer.echo(result.to_text())
    if result.errors:
        typer.echo(f"{len(result.errors)} of {len(result.items)} pictures could not be read", err=True)
        raise typer.Exit(1)


@app.command()
def embed(
    run: RunOrTag,
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE|DIR|GLOB…", help="Pictures.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the embeddings to this .npz file.")] = None,
    similar_to: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Show which are most like it; without others, of the Run's training data."),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many are shown; default: 5.")] = None,
    format: Annotated[str | None, typer.Option(help="table or json, for --similar-to.")] = None,
    json_: Json = False,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
) -> None:
    """Embeddings of pictures, or which are alike by them. Exits with 1 when some could not be read."""
    from resight.commands import embed as command

    chosen = _format(format, json_, ("table", "json"))
    if (out is None) == (similar_to is None):
        raise UsageError("give either --out FILE or --similar-to IMAGE")
    if out is not None and (top is not None or format is not None or json_):
        raise UsageError("--top, --format and --json belong to --similar-to")
    if out is not None and not images:
        raise UsageError("no pictures were given", hint="name files, folders or patterns")
    if out is not None:
        command.check_out(out)
        found = command.embed(run, images or [], backend=backend, threads=threads, batch=batch)
        found.save(out)
        errors = found.errors
        _say_backend(backend, found.choice)
        typer.echo(f"{len(found.sources):,} embeddings of {found.embeddings.shape[1]:,} numbers", err=True)
    else:
        result = command.similar(
            run, similar_to or "", images or None, top=top or 5, backend=backend, threads=threads, batch=batch
        )
        errors = result.errors
        _say_backend(backend, result.choice)
        if chosen == "json":
            _print_json([row.to_dict() for row in result.found])
        else:
            for line in command.table(result.found):
                typer.echo(line)
    _say_unreadable(errors)


@app.command()
def bench(
    run: RunOrTag,
    threads: Threads = None,
    batch: Batch = 8,
    json_: Json = False,
) -> None:
    """How fast a Run answers on this machine, with each backend; stored for --backend auto."""
    from resight.commands.bench import bench

    typer.echo("measuring each backend in turn, some seconds each …", err=True)
    result = bench(run, threads=threads, batch=batch)
    if json_:
        _print_json(result.to_dict())
    else:
        typer.echo(result.to_text())


@app.command()
def doctor(
    data: Data,
    run: Annotated[Path | None, typer.Option(help="A Run trained on it: also labels that it contradicts.")] = None,
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

    with on_terminal() as progress:
        found = examine(data, run=run, page=page, write_manifest=write_manifest, threads=threads, progress=progress)
    if json_:
        _print_json(found.to_dict())
    else:
        typer.echo(found.to_text())
    for path in filter(None, (page, write_manifest)):
        typer.echo(f"written: {path}", err=True)
    if strict and not found.sound:
        raise typer.Exit(1)


@app.command()
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
        _print_json([asdict(row) for row in rows])
    else:
        for line in table(rows):
            typer.echo(line)


@app.command()
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
        _print_json(content.to_dict())
    else:
        for line in table(content):
            typer.echo(line)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where to put everything.")] = Path("runs/demo")) -> None:
    """The whole way in about a minute, on real data that a dependency carries."""
    from resight.commands.demo import demo

    typer.echo(demo(out).path)


def _say_unreadable(errors: Any) -> None:
    """Names pictures that could not be read, on stderr, and exits with 1 where there are some."""
    from resight.images import printable

    for error in errors:
        typer.echo(f"{printable(error.source)}: {printable(error.error or '')}", err=True)
    if errors:
        raise typer.Exit(1)


def _say_backend(wanted: str, choice: Any) -> None:
    """Of ``auto``, to stderr: which backend answers and why."""
    from resight.images import printable

    if choice.note:
        typer.echo(f"note: {printable(choice.note, 2000)}", err=True)
    if wanted == "auto":
        typer.echo(f"backend: {choice.name}, {choice.reason}", err=True)


def _show_run(run: Any, json_: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one speaks
    if json_:
        _print_json(json.loads(run.card.to_json()))
    else:
        typer.echo(run.path)


def _print_json(value: Any) -> None:
    """Writes JSON for another program to stdout: as UTF-8, whatever the encoding of the terminal."""
    from resight.inference import dump_json, send

    send([dump_json(value, indent=2) + "\n"], sys.stdout)


def _format(name: str | None, json_: bool, known: tuple[str, ...]) -> str:
    if json_ and name not in (None, "json"):
        raise UsageError(f"--json and --format {name} contradict each other")
    chosen = "json" if json_ else name or "table"
    if chosen not in known:
        raise UsageError(f"there is no format '{chosen}'", hint=f"formats: {', '.join(known)}")
    return chosen


def _pairs(settings: list[str] | None) -> dict[str, str]:
    pairs = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {setting}: expected SECTION.FIELD=VALUE, e.g. optimizer.clip=1")
        pairs[name.strip()] = value.strip()
    return pairs


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: expected numbers separated by commas") from None


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


if __name__ == "__main__":
    main()
