"""``resight predict``: what is in these pictures. Needs no PyTorch for a Run."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import MissingExtra, RunError, UsageError
from resight.images import printable
from resight.inference import AUTO, BATCH, Prediction, Predictions, Predictor, Source, check_backend
from resight.inference.tasks import only_answering
from resight.runs import CARD, Run
from resight.runs.crossval import fold_path, is_crossval
from resight.samples import find_images

Image = str | Path | bytes | NDArray[np.uint8]
Images = Image | Sequence[Image]

# ARCHITECTURE.TAG; a word that ends like a file is none
_TAG = re.compile(r"\w+\.(?!(?:pt|pth|th|bin|tar|safetensors|onnx)$)\w+", re.ASCII)
_FORMS = "give a Run's directory (runs/flowers-resnet18-1), a weights file (weights.pth), or a tag (resnet50.tv2_in1k)"


def predict(
    run: Run | str | Path,
    images: Images,
    *,
    top: int = 5,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
) -> Predictions:
    """Answer for each picture, in order.

    run: a Run, its directory, or weights (a tag such as ``resnet50.tv2_in1k``, a file), which are imported first.
    images: files, folders and patterns such as ``"photos/*.jpg"``, each file once; or encoded pictures (bytes); or
    decoded ones (arrays uint8 (H, W) or (H, W, C)). A picture that cannot be used is a Prediction with ``error``.
    artifact: answer with what was exported under this name. backend: ``onnxruntime``, ``openvino``, or ``auto``, the
    quickest by what ``resight bench`` has stored, else onnxruntime. batch: the most pictures computed at a time by
    each thread; of few pictures each thread takes less, so that all have work.

        resight.predict(run, "photos/*.jpg").to_csv("out.csv")

    Raises RunError for a Run that is missing, unfinished or damaged; UsageError for arguments and inputs
    without pictures; MissingExtra for weights where PyTorch is not installed, and for a backend that is not.
    """
    return Predictions(stream(run, images, top=top, artifact=artifact, backend=backend, threads=threads, batch=batch))


def stream(
    run: Run | str | Path,
    images: Images,
    *,
    top: int = 5,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
) -> Iterator[Prediction]:
    """As ``predict``, one by one, for more pictures than fit into memory. What is wrong is raised at the
    call.
    """
    ready = prepare(run, images, artifact=artifact, backend=backend, threads=threads, batch=batch)
    return ready.predictor.predict(ready.sources, top)


@dataclass(frozen=True)
class Ready:
    """A predictor, and the pictures that it is to answer for: ``predictor.predict(sources, top)``."""

    predictor: Predictor
    sources: Sequence[Source]


def prepare(
    run: Run | str | Path,
    images: Images,
    *,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
) -> Ready:
    """Find the pictures and open the Run. Raises what ``predict`` raises."""
    check_backend(backend)
    opened, sources = run_and_sources(run, images)
    how: dict[str, Any] = {"artifact": artifact, "backend": backend, "threads": threads, "batch": batch}
    return Ready(Predictor(opened, pictures=len(sources), **how), sources)


def run_and_sources(run: Run | str | Path, images: Images, *, embeds: bool = False) -> tuple[Run, list[Source]]:
    """The Run, and what ``images`` mean to it: of a folder also ``.npy`` files beside pictures where the Run answers
    neither grey nor RGB, since they are its usual form. Wrong names are found before weights are imported. embeds: as
    of ``resolve_run``.
    """
    sources, opened = find_sources(images), resolve_run(run, embeds=embeds)
    return opened, sources if opened.card.channels in (1, 3) else find_sources(images, arrays=True)


def find_sources(images: Images, *, arrays: bool = False) -> list[Source]:
    """What ``images`` mean: paths, folders and patterns become files; bytes and arrays stay as they are. ``arrays``: as
    of ``find_images``.

    Raises UsageError for nothing, for what does not exist, and for files mixed with bytes or arrays.
    """
    given = [images] if isinstance(images, (str, Path, bytes, np.ndarray)) else list(images)
    paths = [item for item in given if isinstance(item, (str, Path))]
    pictures = [item for item in given if not isinstance(item, (str, Path))]
    if paths and pictures:
        raise UsageError("give either paths or pictures (bytes, arrays), not both at once")
    return [*pictures] if pictures else [*find_images(paths, arrays=arrays)]


def resolve_run(source: Run | str | Path, *, embeds: bool = False) -> Run:
    """The Run that ``source`` is, lies in, or is made of: a directory is opened, weights are imported.

    Of a directory only the card is read: whoever uses another file checks it (``Run.read``; a Predictor does).
    embeds: one that was pretrained without labels will do, since nothing but embeddings is asked for.

    Raises UsageError for an empty name, and for a Run without classes where these are needed; RunError for a
    directory, path or word that is nothing of these; MissingExtra for weights where PyTorch is not installed.
    """
    run = _resolved(source)
    if not embeds:
        only_answering(run, "an answer")
    return run


def _resolved(source: Run | str | Path) -> Run:
    if isinstance(source, Run):
        return source
    if not str(source):
        raise UsageError("the Run's name is empty", hint="perhaps a shell variable is not set")
    path = Path(source)
    if is_crossval(path) and not (path / CARD).exists():
        raise RunError(
            f"{printable(str(source))} is a cross-validation, which holds a Run for each fold",
            hint=f"give one of them, {printable(str(fold_path(path, 1)))}, or train one with all pictures",
        )
    if path.is_dir() or (path / CARD).exists():
        return Run.open(path, verify=False)
    shown = printable(str(source))
    if path.name == CARD and path.is_file():
        raise RunError(f"{shown} is a Run's card", hint=f"give its directory: {printable(str(path.parent))}")
    if not path.is_file() and len(path.parts) != 1:
        raise RunError(f"there is no Run at {shown}", hint="check the path")
    if not path.is_file() and not _TAG.fullmatch(str(source)):
        raise RunError(f"there is no Run, file or tag named {shown}", hint=_FORMS)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra(f"{shown} is not a Run's directory; predicting from weights", "train")
    from resight.commands.import_ import cached_import

    return cached_import(str(source))
