"""Pictures of a gallery: a square as the network sees it, and where it looked for a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.explaining import check_head, class_activation, explain_tiles, head_of, overlay, shrunk
from resight.images import visible
from resight.inference import Predictor
from resight.reporting.page import thumbnail
from resight.runs import Run
from resight.samples import SampleSet

SIDE = 144  # pixels of a picture in a gallery


class HeatMaps:
    """Class activation maps as thumbnails. ``missing``: why there are none, or empty."""

    def __init__(self, run: Run, predictor: Predictor) -> None:
        self._predictor = predictor
        self.missing = ""
        if predictor.artifact is not None and predictor.artifact.card.no_maps:
            self.missing = predictor.artifact.card.no_maps
            return
        try:
            self._head = head_of(predictor)
        except RunError as error:
            self.missing = error.message

    def of(self, squares: NDArray[np.uint8], classes: NDArray[np.int64]) -> list[str]:
        """For N squares (N, S, S, C), the map of each one's class (N,) over it; empty texts where there are none."""
        if self.missing:
            return [""] * len(squares)
        features, logits = self._predictor.ask(squares, ("features", "logits"))
        try:
            check_head(features, logits, self._head)
        except RunError as error:  # the last layer is not what the answer is made by: said on the page
            self.missing = error.message
            return [""] * len(squares)
        maps = class_activation(features, self._head.weights[classes])
        return [shown(overlay(visible(square), heat)) for square, heat in zip(squares, maps, strict=True)]

    def of_tiles(self, picture: NDArray[np.uint8], label: int) -> str:
        """The map of a class over a whole picture (H, W, C) whose tiles are answered; empty where there is none."""
        if self.missing:
            return ""
        found = explain_tiles(self._predictor, picture, self._head, [label])
        return shown(overlay(shrunk(visible(picture), SIDE), found.maps[0].reduced(SIDE), fine=True))


def square_of(run: Run, samples: SampleSet, index: int) -> NDArray[np.uint8]:
    """What the network sees of the sample at ``index``: uint8 (S, S, C), or, where it sees tiles, the picture itself,
    (H, W, C). Raises ImageError.
    """
    geometry = run.card.geometry
    pixels = samples.read(samples.samples[index], run.card.channels, geometry=geometry)
    return pixels if geometry.kind == "tiles" else geometry.apply(pixels)


def shown(pixels: NDArray[np.uint8]) -> str:
    """A thumbnail of (H, W, C), as `visible` shows it; a small picture is enlarged, its pixels left visible."""
    pixels = visible(pixels)
    factor = max(1, SIDE // max(pixels.shape[:2]))
    return thumbnail(pixels.repeat(factor, axis=0).repeat(factor, axis=1), SIDE)
