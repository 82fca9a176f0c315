"""A picture as a grid of tiles: where they lie, and their pixels, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.images.geometry import PADDING, Geometry, resize

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.int64]


def starts(length: int, side: int, stride: int) -> NDArray[np.int64]:
    """Where tiles begin along an axis of ``length`` pixels, int64 (n,), n ≥ 1: every ``stride``, and the last one moved
    inwards so that it ends with the picture. A shorter axis has one tile, which reaches beyond it on both sides.
    """
    if length <= side:
        return np.array([-((side - length) // 2)], np.int64)
    return np.append(np.arange(0, length - side, stride), length - side)


def tile_boxes(geometry: Geometry, height: int, width: int) -> Boxes:
    """The tiles of a picture of this size, row by row: int64 (N, 4), left, top, right, bottom in its pixels.

    All have ``geometry.tile`` pixels a side. Every pixel lies in at least one. Raises UsageError for another geometry.
    """
    _check(geometry)
    side = geometry.tile
    top, left = np.meshgrid(starts(height, side, geometry.stride), starts(width, side, geometry.stride), indexing="ij")
    corner = np.stack([left.ravel(), top.ravel()], axis=1)
    return np.concatenate([corner, corner + side], axis=1)


def cut(geometry: Geometry, pixels: Pixels, boxes: Boxes) -> Pixels:
    """The tiles ``boxes`` (N, 4) of uint8 (H, W, C), each resized to the network's square: uint8 (N, S, S, C).

    What lies outside of the picture is grey (114). Each tile is a function of its own pixels alone, so it does not
    matter with which others it is cut.
    """
    _check(geometry)
    size = geometry.size
    out = np.empty((len(boxes), size, size, pixels.shape[2]), np.uint8)
    for number, box in enumerate(boxes.tolist()):
        out[number] = resize(_part(pixels, *box), size, size, geometry.interpolation)
    return out


def tiles_of(
    geometry: Geometry, pixels: Pixels, batch: int, boxes: Boxes | None = None
) -> Iterator[tuple[Boxes, Pixels]]:
    """All tiles of a picture, or those of ``boxes`` (N, 4), at most ``batch`` at a time: their boxes (n, 4) and pixels
    (n, S, S, C).
    """
    boxes = tile_boxes(geometry, *pixels.shape[:2]) if boxes is None else boxes
    for start in range(0, len(boxes), batch):
        part = boxes[start : start + batch]
        yield part, cut(geometry, pixels, part)


def windows_of(geometry: Geometry, pixels: Pixels, boxes: Boxes, tile: int, side: int, batch: int) -> Iterator[Pixels]:
    """What lies about each of the tiles ``boxes`` (N, 4), seen coarsely, in order, at most ``batch`` at a time: uint8
    (n, side, side, C).

    The whole picture is resized once, so that a tile has ``tile`` pixels a side; of that, a window of ``side`` pixels
    about each tile's middle, to the nearest pixel, and grey (114) beyond the picture.
    """
    _check(geometry)
    size = pixels.shape[:2]
    height, width = (max(1, round(length * tile / geometry.tile)) for length in size)
    coarse = resize(pixels, height, width, geometry.interpolation)
    padded = np.pad(coarse, ((side, side), (side, side), (0, 0)), constant_values=PADDING)
    views = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))  # (…, …, C, side, side)
    middle = (boxes[:, 1::-1] + boxes[:, :1:-1]) / 2 * (np.array([height, width]) / np.array(size))  # y, x
    corner = np.floor(middle - side / 2 + 0.5).astype(np.int64) + side
    for start in range(0, len(boxes), batch):
        top, left = corner[start : start + batch].T
        yield np.ascontiguousarray(np.moveaxis(views[top, left], 1, -1))


def _part(pixels: Pixels, left: int, top: int, right: int, bottom: int) -> Pixels:
    height, width, channels = pixels.shape
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return pixels[top:bottom, left:right]
    part = np.full((bottom - top, right - left, channels), PADDING, np.uint8)
    inside = pixels[max(0, top) : bottom, max(0, left) : right]
    y, x = max(0, -top), max(0, -left)
    part[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return part


def _check(geometry: Geometry) -> None:
    if geometry.kind != "tiles":
        raise UsageError(f"the geometry is {geometry.kind}, which has no tiles")
