"""Where in a picture that was cut into tiles the answer comes from: not an estimate, but what the answer is the sum of.

The logit of a class is Σₜ sₜ (w·hₜ + b), of the tiles t with their shares sₜ (Ilse et al. 2018, eq. 7) and a linear
layer (w, b); and hₜ is the mean of a feature map, so w·hₜ is the mean of a class activation map (Zhou et al. 2016,
section 2). So each cell of each tile adds sₜ (w·f) / cells to the logit. Painted on its place, what overlaps added up,
the map's sum over the picture is the logit less its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.explaining.cam import check_head, class_activation
from resight.images.tiles import Boxes
from resight.inference import Predictor
from resight.inference.backend import ATTENTION, Pixels
from resight.inference.heads import Head
from resight.inference.pooling import Pool, shares

Floats = NDArray[np.float32]
_STRIP = 256
"""Rows that are painted at a time, so that a map of 100 megapixels needs no second one beside it."""
_MANY = 32


@dataclass(frozen=True, eq=False)
class TileMap:
    """The evidence for one class over a whole picture.

    height, width: of the picture. boxes: int64 (N, 4), left, top, right, bottom of its tiles. cells: float32 (N, h, w),
    what each cell of each tile adds to the logit.
    """

    height: int
    width: int
    boxes: Boxes
    cells: Floats

    def rows(self, start: int, stop: int) -> Floats:
        """Some rows of the map at the picture's full resolution: float32 (stop − start, width), logits per pixel."""
        out = np.zeros((stop - start, self.width))
        for number in np.flatnonzero((self.boxes[:, 1] < stop) & (self.boxes[:, 3] > start)):
            _paint(out, start, self.boxes[number].tolist(), self.cells[number])
        return out.astype(np.float32)

    def whole(self) -> Floats:
        """The map at full resolution: float32 (height, width); its sum is the logit less the bias, but for what tiles
        add that reach beyond the picture.
        """
        out = np.empty((self.height, self.width), np.float32)
        for start in range(0, self.height, _STRIP):
            stop = min(start + _STRIP, self.height)
            out[start:stop] = self.rows(start, stop)
        return out

    def reduced(self, most: int) -> Floats:
        """The map with at most ``most`` pixels a side: means of squares of the full map, float32."""
        factor = -(-max(self.height, self.width) // most)
        strip = max(1, _STRIP // factor) * factor
        parts = []
        for start in range(0, self.height, strip):
            part = self.rows(start, min(start + strip, self.height))
            parts.append(_means(_means(part, factor).T, factor).T)
        return np.concatenate(parts)

    def peak(self) -> tuple[int, int]:
        """x, y of the pixel with the most evidence; where several have it, their middle."""
        best, places = -np.inf, np.zeros((0, 2), np.int64)
        for start in range(0, self.height, _STRIP):
            part = self.rows(start, min(start + _STRIP, self.height))
            top = float(part.max())
            if top > best:
                best, places = top, np.zeros((0, 2), np.int64)
            if top == best:
                y, x = np.nonzero(part == part.max())
                places = np.concatenate([places, np.stack([x, y + start], axis=1)])
        x, y = places.mean(axis=0)
        return round(float(x)), round(float(y))

    def grey(self) -> Pixels:
        """The map at full resolution as uint8 (height, width): 0 for none or evidence against, 255 for the most."""
        out = np.empty((self.height, self.width), np.uint8)
        best = max(float(self.rows(s, min(s + _STRIP, self.height)).max()) for s in range(0, self.height, _STRIP))
        for start in range(0, self.height, _STRIP):
            stop = min(start + _STRIP, self.height)
            out[start:stop] = np.clip(self.rows(start, stop) / best, 0, 1) * 255 + 0.5 if best > 0 else 0
        return out


def _means(values: Floats, factor: int) -> Floats:
    """Of each ``factor`` rows, or of those that are left: float32 (⌈n / factor⌉, …)."""
    edges = np.arange(0, len(values), factor)
    counts = np.diff(np.append(edges, len(values)))[:, None].astype(np.float32)
    found: Floats = (np.add.reduceat(values, edges) / counts).astype(np.float32)
    return found


def _paint(out: NDArray[np.float64], start: int, box: list[int], cells: Floats) -> None:
    """Adds a tile's cells to rows from ``start`` on; each cell is spread evenly over its pixels."""
    left, top, right, bottom = box
    ys = top + np.round(np.linspace(0, bottom - top, len(cells) + 1)).astype(int)
    xs = left + np.round(np.linspace(0, right - left, cells.shape[1] + 1)).astype(int)
    area = np.diff(ys)[:, None] * np.diff(xs)[None]
    density = np.divide(cells, area, out=np.zeros(cells.shape), where=area > 0)
    row, column = np.repeat(np.arange(len(cells)), np.diff(ys)), np.repeat(np.arange(cells.shape[1]), np.diff(xs))
    first, last = max(top, start), min(bottom, start + len(out))
    near, far = max(left, 0), min(right, out.shape[1])
    if first < last and near < far:
        part = density[row[first - top : last - top]][:, column[near - left : far - left]]
        out[first - start : last - start, near:far] += part


@dataclass(frozen=True, eq=False)
class Explained:
    """A picture's answer and the maps of some classes. logits: float64 (K,), of the network. embedding: float32 (D,).
    shares: float64 (N,), of each tile in the answer. classes: positions of those that ``maps`` are of.
    """

    logits: NDArray[np.float64]
    embedding: Floats
    shares: NDArray[np.float64]
    classes: tuple[int, ...]
    maps: tuple[TileMap, ...]


def explain_tiles(predictor: Predictor, picture: Pixels, head: Head, classes: list[int], top: int = 1) -> Explained:
    """The answer for a whole picture, uint8 (H, W, C), and where it comes from, by one pass over its tiles.

    classes: positions of those whose evidence is shown; if none, of the ``top`` most probable ones, which takes a pass
    of its own where there are more than ``_MANY``. Memory: besides the picture one batch of tiles, and h · w numbers
    for each tile and class. Raises RunError where the network does not end in average pooling and one linear layer.
    """
    assert predictor.tiled is not None
    if not classes and len(head.weights) > _MANY:
        classes = [int(k) for k in np.argsort(-predictor.tiled.answer(picture, ("logits",))[0], kind="stable")[:top]]
    pool, attention, boxes, evidence = Pool(), [], [], []
    kept = classes or list(range(len(head.weights)))
    for where, (scores, logits, embedding, features) in predictor.tiled.tiles(
        picture, (ATTENTION, "logits", "embedding", "features")
    ):
        check_head(features, logits, head)
        pool.add(scores, logits, embedding)
        attention.append(scores)
        boxes.append(where)
        maps = [class_activation(features, np.repeat(head.weights[[k]], len(features), axis=0)) for k in kept]
        evidence.append(np.stack(maps, axis=1).astype(np.float32))
    pooled, embedded = pool.result()
    if not np.isfinite(pooled).all():
        raise RunError(f"{predictor.run.path} answered with numbers that are not finite")
    shown = classes or [int(k) for k in np.argsort(-pooled, kind="stable")[:top]]
    share, cells, places = shares(attention, pool), np.concatenate(evidence), np.concatenate(boxes)
    weight = (share / np.prod(cells.shape[2:]))[:, None, None]
    height, width = picture.shape[:2]
    found = tuple(TileMap(height, width, places, (weight * cells[:, kept.index(k)]).astype(np.float32)) for k in shown)
    return Explained(pooled, embedded.astype(np.float32), share, tuple(shown), found)
