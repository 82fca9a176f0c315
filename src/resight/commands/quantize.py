"""``resight export RUN --to openvino|onnx --int8``: int8 within a budget of accuracy. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resight.commands.own_data import load_own, match_classes
from resight.commands.predict import resolve_run
from resight.errors import DataError
from resight.inference.tiled import only_whole
from resight.runs import Run
from resight.samples import load

if TYPE_CHECKING:
    from resight.exporting.int8 import Quantized


def quantize_run(
    run: Run | str | Path,
    *,
    to: str | Sequence[str] = ("openvino", "onnx"),
    max_drop: float | None = None,
    data: str | Path | None = None,
    pictures: int | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Quantized:
    """As `resight.exporting.int8.quantize`, with the data that the Run was trained with, or ``data``: labelled pictures
    with training and validation parts and the Run's classes.

    max_drop and pictures: by default 0.5 points, and 300.

    Raises what that raises, and RunError, DataError and UsageError for a Run or data that cannot be used.
    """
    from resight.exporting.int8 import MAX_DROP, PICTURES, quantize

    opened = resolve_run(run)
    only_whole(opened, "quantising")
    if data is None:
        samples = load_own(opened)
    else:
        samples = load(data, test_fraction=0)
        match_classes(samples.classes, opened.classes)
        if samples.classes != opened.classes:
            raise DataError(f"{data} must have all classes of {opened.path}, in the same order")
    targets = (to,) if isinstance(to, str) else tuple(to)
    budget = MAX_DROP if max_drop is None else max_drop
    number = PICTURES if pictures is None else pictures
    return quantize(opened, samples, to=targets, max_drop=budget, pictures=number, threads=threads, say=say)
