"""The page of explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.explaining import (
    Bank,
    Explanation,
    Explanations,
    enlarge,
    filters_picture,
    maps_picture,
    overlay,
    plane,
    png,
)
from resight.images import Geometry
from resight.reporting.embeddings import embedding_plot
from resight.reporting.page import data_uri, thumbnail, write_page

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
SIDE, SMALL = 480, 160


def section(
    item: Explanation,
    picture: Pixels,
    geometry: Geometry | None,
    neighbours: Sequence[Pixels],
    stages: Mapping[str, Floats],
) -> dict[str, Any]:
    """What the page shows of one picture, uint8 (H, W, 3). neighbours: the pictures of ``item.nearest``, in order.
    stages: activations (D, h, w) by name. geometry: None where the maps are of the whole picture, from its tiles.
    """
    small = _shrunk(picture)
    return {
        "item": item,
        "picture": thumbnail(small, SIDE),
        "overlays": [
            (one, thumbnail(overlay(small, one.heat, geometry, fine=geometry is None), SIDE)) for one in item.maps
        ],
        "nearest": [
            (neighbour, thumbnail(enlarge(pixels, SMALL), SMALL))
            for neighbour, pixels in zip(item.nearest, neighbours, strict=True)
        ],
        "stages": [(name, maps.shape, _inline(maps_picture(maps))) for name, maps in stages.items()],
    }


def write(
    result: Explanations,
    sections: Sequence[Mapping[str, Any]],
    bank: Bank | None,
    classes: Sequence[str],
    own: Floats | None,
    filters: Floats | None,
) -> None:
    """Write ``result.page``. bank: training pictures to draw by their embeddings, with the ``classes`` of their labels;
    own: the embeddings of the explained pictures, (N, D). filters: the first layer's, (F, C, k, k).
    """
    plot = shares = None
    if bank is not None:
        flat = plane(bank.embeddings)
        shares, points = flat.shares, flat.place(bank.embeddings)
        labels, names = bank.kinds(classes)
        plot = embedding_plot(points, labels, names, shares, None if own is None else flat.place(own))
    write_page(
        result.page,
        "explain.html",
        result=result,
        entries=sections,
        plot=plot,
        shares=shares,
        compared=0 if bank is None else len(bank.samples),
        filters=None if filters is None else _inline(filters_picture(filters)),
        filter_shape=None if filters is None else filters.shape,
    )


def _inline(pixels: Pixels) -> str:
    return data_uri(png(pixels), "image/png")


def _shrunk(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.array(image)
