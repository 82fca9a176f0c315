"""``resight explain``: where in a picture the network found its answer, and whether that may be relied on.

Class activation maps need no PyTorch; the other methods, the sanity check and feature maps by stage do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resight.commands.explainer import CAM, Explainer
from resight.commands.extras import need
from resight.commands.outputs import check_outside_runs
from resight.commands.predict import Images, resolve_run, run_and_sources
from resight.errors import ImageError, UsageError
from resight.explaining import (
    Explanation,
    Explanations,
    first_filters,
)
from resight.images import printable
from resight.inference import AUTO, check_backend, unit
from resight.inference.tiled import only_whole
from resight.runs import Run, open_artifact
from resight.runs.storage import storage_errors

METHODS = (CAM, "gradcam++", "integrated-gradients", "smoothgrad", "occlusion")
TOP = 3
PAGE = "index.html"
_SAFE = re.compile(r"[^A-Za-z0-9_-]+")


def explain(
    run: Run | str | Path,
    images: Images = (),
    *,
    classes: Sequence[str] = (),
    method: str = CAM,
    top: int | None = None,
    out: str | Path = "explained",
    faithful: bool = True,
    sanity: bool = False,
    inside: bool = False,
    compare: int | None = None,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Explanations:
    """Explain the answer for each picture: writes a PNG for each, picture and overlay side by side, and one page.

    run: a Run, its directory, or weights. images: as for ``predict``; none, with ``inside``, for the network alone.
    classes: whose evidence is shown, by name; by default that of the ``top`` most probable ones (3). method: ``cam``,
    or with the extra ``train`` ``gradcam++``, ``integrated-gradients``, ``smoothgrad``, ``occlusion``. out: a folder;
    files of these names in it are replaced. faithful: compare the first map of each picture with 19 random maps, which
    takes 363 answers. sanity: compare it with the maps of three networks with random weights (extra ``train``).
    inside: also show the first filters, and feature maps by stage (extra ``train``). compare: how many training
    pictures are looked through for the nearest, at most; 0: none; by default all that the Run carries, or 300 where
    it carries none. say: is told the progress.

    A picture that cannot be used is an Explanation with ``error``. Raises UsageError for wrong arguments, RunError for
    a Run that is damaged or whose network does not end in average pooling and one linear layer (``cam``), MissingExtra
    for what is not installed, StorageError when writing fails.
    """
    _check(method, top, classes, compare)
    need("the page of explanations", "report", "jinja2", "matplotlib")
    alone = inside and isinstance(images, list | tuple) and not images
    if alone and (classes or top is not None or method != CAM or sanity or not faithful):
        raise UsageError(
            "--class, --top, --method, --sanity and --no-faithfulness are about pictures, and there are none",
            hint="name pictures, or leave these options out",
        )
    if artifact is not None and (method != CAM or sanity or inside):
        raise UsageError("--artifact is for class activation maps: the rest looks at the network in PyTorch")
    if artifact is not None and (why := open_artifact(resolve_run(run), artifact).card.no_maps):
        raise UsageError(why, hint="explain the Run itself: leave --artifact out")
    if method != CAM or sanity or (inside and not alone):
        need("explaining with gradients and activations", "train", "torch", "captum")
    if method != CAM or sanity or inside:
        only_whole(resolve_run(run), "--method, --sanity and --inside")
    check_backend(backend)
    check_outside_runs(Path(out))
    opened, sources = (resolve_run(run), []) if alone else run_and_sources(run, images)
    targets = [_class_number(opened, name) for name in dict.fromkeys(classes)]
    work = Explainer(
        opened, method, targets, top or TOP, faithful, sanity, inside, artifact, backend, threads, compare, say
    )
    folder = Path(out)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    items, entries, embeddings = [], [], []
    for number, source in enumerate(sources, start=1):
        name = str(source) if isinstance(source, Path) else f"#{number - 1}"
        say(f"explaining {number} of {len(sources)}: {printable(name)}")
        try:
            item, entry, embedding = work.explain(source, name, folder / _file_name(number, name))
        except ImageError as error:
            items.append(Explanation(name, error=error.reason))
            continue
        items.append(item)
        entries.append(entry)
        embeddings.append(embedding)
    result = Explanations(opened.path, method, folder / PAGE, tuple(items), tuple(work.notes))
    from resight.reporting.explanations import write

    classes_there = work.samples.classes if work.samples else ()
    own = unit(np.stack(embeddings)) if embeddings else None
    write(result, entries, work.bank, classes_there, own, first_filters(opened) if inside else None)
    return result


def _check(method: str, top: int | None, classes: Sequence[str], compare: int | None) -> None:
    if method not in METHODS:
        raise UsageError(f"there is no method {printable(method)!r}", hint=f"methods: {', '.join(METHODS)}")
    if top is not None and classes:
        raise UsageError("--top and --class contradict each other: the classes shown are those named")
    if top is not None and (type(top) is not int or top < 1):
        raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
    if compare is not None and (type(compare) is not int or compare < 0):
        raise UsageError(f"compare is {compare!r}; expected a whole number, 0 or more")


def _class_number(run: Run, name: str) -> int:
    if name not in run.classes:
        from difflib import get_close_matches

        near = get_close_matches(name, run.classes, n=3) or list(run.classes[:10])
        raise UsageError(
            f"the Run knows no class {printable(name)!r}",
            hint=f"for example: {', '.join(printable(known) for known in near)}",
        )
    return run.classes.index(name)


def _file_name(number: int, name: str) -> str:
    """``001-cat.png``: a number, and what is harmless of the picture's name."""
    stem = _SAFE.sub("-", Path(name).stem).strip("-")[:40]
    return f"{number:03d}-{stem}.png" if stem else f"{number:03d}.png"
