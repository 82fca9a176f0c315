"""Two small networks that answer with a colour: one that is quick and errs near the borders, and one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.inference.tiny import CLASSES, COLOURS, SIZE, graph, last_layer, make_run

from resight.adapting.timing import Pace
from resight.exporting.int8.speed import Rates
from resight.inference import Backend
from resight.runs import Architecture, Run
from resight.samples import SampleSet, load

LEANING = last_layer() * np.array([[1.25], [1.0], [1.0]], np.float32)
"""The last layer of the network that errs: it takes too much for blue."""


def mixed(seed: int) -> tuple[NDArray[np.uint8], str]:
    """uint8 (SIZE, SIZE, 3) of two colours, mixed 50 to 100 %, and the name of the one that there is more of."""
    random = np.random.default_rng(seed)
    more, less = random.choice(CLASSES, 2, replace=False)
    share = random.uniform(0.55, 1.0)
    flat = share * np.array(COLOURS[more]) + (1 - share) * np.array(COLOURS[less])
    noise = random.integers(-10, 11, (SIZE, SIZE, 3))
    return np.clip(flat + noise, 0, 255).astype(np.uint8), str(more)


def pictures(number: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.stack([mixed(1000 * seed + k)[0] for k in range(number)])


def write_data(root: Path, parts: Mapping[str, int]) -> Path:
    """Split folders with so many pictures in each part."""
    for number, (part, count) in enumerate(parts.items()):
        for k in range(count):
            pixels, label = mixed(100_000 * (number + 1) + k)
            (root / part / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / label / f"{k}.png")
    return root


def two_runs(folder: Path, parts: Mapping[str, int] | None = None) -> tuple[Run, Run, SampleSet]:
    """The whole network, the small one that errs, and their data."""
    data = load(write_data(folder / "data", parts or {"train": 12, "val": 120, "test": 60}))
    architecture = {"architecture": Architecture("resnet50")}
    whole = make_run(folder / "whole", data=data, fields=architecture, tensors=tensors(last_layer()))
    small = make_run(
        folder / "small", data=data, model=graph(head=LEANING).SerializeToString(), tensors=tensors(LEANING)
    )
    return whole, small, data


def tensors(head: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {"fc.weight": head, "fc.bias": np.zeros(len(head), np.float32)}


def rating(**quick: float) -> Any:
    """Stands in for measured rates: single pictures a second by the name of the side, 100 where none is given."""

    def rates(sides: Mapping[str, Backend], shape: Sequence[int]) -> dict[str, Rates]:
        return {name: Rates(quick.get(name, 100.0), quick.get(name, 100.0)) for name in sides}

    return rates


def timing(one: float = 2.0, sixteen: float = 2.0) -> Any:
    """Stands in for a measurement: so many times as fast as the whole network."""

    def paces(whole: Backend, adaptive: Backend, pixels: NDArray[np.uint8], routes: int) -> Pace:
        return Pace(
            (one, one, one),
            (sixteen, sixteen, sixteen),
            0.01,
            (0.3, *[1.3] * (routes - 1)),
            len(pixels),
            1,
            (one, sixteen),
        )

    return paces
