"""Answers for pictures that are cut into tiles: one picture at a time, a few of its tiles at a time.

What is held in memory besides the network: for each thread one decoded picture and one batch of its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol, runtime_checkable

import numpy as np

from resight.errors import ImageError, UsageError
from resight.images import Geometry, tile_boxes, tiles_of
from resight.images.tiles import Boxes
from resight.inference.backend import ATTENTION, Backend, Floats, Pixels
from resight.inference.patches import LOOKED
from resight.inference.pipeline import map_ordered
from resight.inference.pooling import Pool
from resight.inference.sessions import Sessions
from resight.inference.sharing import UNLIKE, Compute, Item, is_few
from resight.inference.tasks import probabilities_of
from resight.runs import Run, RunCard

LOGITS, EMBEDDING = "logits", "embedding"
_USUAL = 224 * 224  # pixels of what ``batch`` counts, where nothing is cut


def only_whole(run: Run, what: str) -> None:
    """Raises UsageError where ``run`` cuts pictures into tiles: ``what`` needs a network that sees it at once."""
    if run.card.geometry.kind == "tiles":
        raise UsageError(
            f"{what} is for Runs whose network sees a picture at once; {run.path} cuts pictures into tiles",
            hint="see docs/tiles.md for what there is for such Runs",
        )


def only_tiles(run: Run, what: str) -> None:
    """Raises UsageError where ``run`` sees a picture at once: ``what`` chooses among tiles."""
    if run.card.geometry.kind != "tiles":
        raise UsageError(
            f"{what} is for Runs that cut pictures into tiles; {run.path} sees a picture at once",
            hint="see docs/tiles.md for when and how to train with tiles",
        )


class HasCard(Protocol):
    """Whoever answers by a card: a Predictor."""

    @property
    def card(self) -> RunCard: ...


@runtime_checkable
class Chooses(Protocol):
    """A backend that looks at some tiles of a picture only: see ``Patches.chosen``."""

    def chosen(self, geometry: Geometry, picture: Pixels, boxes: Boxes) -> Boxes: ...


class TiledSharing:
    """As ``Sharing``, where ``prepare`` makes a whole picture, uint8 (H, W, C).

    Of many pictures each thread decodes and answers its own. Fewer than two for each thread are answered one after the
    other, each by all threads together. compute: as in ``Sharing``, for tiles. unlike: the scores of embeddings (N, D).
    answering: has the ``card`` by which is answered.
    """

    def __init__(
        self,
        sessions: Sessions,
        threads: int,
        batch: int,
        compute: Compute,
        unlike: Callable[[Floats], Floats],
        answering: HasCard,
    ) -> None:
        self._sessions, self._threads, self._compute = sessions, threads, compute
        self._unlike, self._answering = unlike, answering
        self._geometry = answering.card.geometry
        self.at_once = max(1, batch * _USUAL // self._geometry.size**2)
        """Tiles that are computed at a time: about as many pixels as ``batch`` pictures of 224 px."""

    def ask(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """uint8 (N, H, W, C), N ≥ 1 whole pictures → each of the outputs, (N, …)."""
        rows = [self.answer(picture, outputs) for picture in pixels]
        return [np.stack(arrays) for arrays in zip(*rows, strict=True)]

    def answer(self, picture: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """One row of each of ``outputs`` for a whole picture, uint8 (H, W, C), by all threads."""
        return self._pooled(self._sessions.of(1), picture, outputs)

    def restart(self, done: int, number: int) -> int:
        """See ``Predictor.restart``."""
        if done >= number:
            return number
        if is_few(number, self._threads):
            return done
        return done if not is_few(number - done, self._threads) else max(0, number - 2 * self._threads)

    def answered(
        self, items: Iterable[Item], number: int | None, prepare: Callable[[Item], Pixels], outputs: Sequence[str]
    ) -> Iterator[tuple[Item, list[Floats] | ImageError]]:
        """For each item, in order, a row of each output; or what ``prepare`` raised for it."""
        queue = iter(items)
        first = list(islice(queue, 2 * self._threads))
        few = is_few(len(first), self._threads)
        session = self._sessions.of(1 if few else self._threads)

        def answer(item: Item) -> tuple[Item, list[Floats] | ImageError]:
            try:
                return item, self._pooled(session, prepare(item), outputs)
            except ImageError as error:
                return item, error

        if few:
            yield from map(answer, first)
        else:
            yield from map_ordered(answer, chain(first, queue), threads=self._threads, window=2 * self._threads)

    def _pooled(self, session: Backend, picture: Pixels, outputs: Sequence[str]) -> list[Floats]:
        wide = EMBEDDING in outputs or UNLIKE in outputs
        pool, looked = Pool(), 0
        for boxes, (attention, *values) in self.tiles(
            picture, (ATTENTION, LOGITS, *((EMBEDDING,) if wide else ())), session
        ):
            pool.add(attention, *values)
            looked += len(boxes)
        logits, *rest = pool.result()
        found = {LOGITS: logits.astype(np.float32)}
        chances = probabilities_of(self._answering.card, found[LOGITS][None])[0]
        found["probabilities"] = chances.astype(np.float32)
        if wide:
            found[EMBEDDING] = rest[0].astype(np.float32)
        if LOOKED in outputs:
            found[LOOKED] = np.array([looked, len(tile_boxes(self._geometry, *picture.shape[:2]))], np.float32)
        if UNLIKE in outputs:
            found[UNLIKE] = self._unlike(found[EMBEDDING][None])[0]
        if unknown := [name for name in outputs if name not in found]:
            raise UsageError(f"pictures that are cut into tiles have no {', '.join(unknown)}: there are those of tiles")
        return [found[name] for name in outputs]

    def tiles(
        self, picture: Pixels, outputs: Sequence[str], session: Backend | None = None
    ) -> Iterator[tuple[Boxes, list[Floats]]]:
        """All tiles of a picture, or those that the session chooses, some at a time: their boxes (n, 4) and what the
        graph says of each, (n, …).
        """
        session = session or self._sessions.of(1)
        wanted = tile_boxes(self._geometry, *picture.shape[:2])
        if isinstance(session, Chooses):
            wanted = session.chosen(self._geometry, picture, wanted)
        for boxes, pixels in tiles_of(self._geometry, picture, self.at_once, wanted):
            yield boxes, self._compute(session, pixels, outputs)
