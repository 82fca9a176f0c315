"""How the pictures of one call are shared among threads, and in which groups they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from resight.errors import ImageError
from resight.inference.backend import Backend, Floats, Pixels
from resight.inference.pipeline import batched, map_ordered
from resight.inference.sessions import Sessions

UNLIKE = "unlike"
"""Beside the graph's outputs: the score of an embedding."""
Item = TypeVar("Item")
Result = TypeVar("Result")
Compute = Callable[[Backend, Pixels, Sequence[str]], list[Floats]]
"""What a session answers for uint8 (N, S, S, C): each of the outputs, in their order."""


def is_few(pictures: int, threads: int) -> bool:
    """Too few for each thread to have its own, twice: so that none waits long for the last."""
    return pictures < 2 * threads


class Sharing:
    """``threads`` threads, groups of up to ``batch`` pictures.

    Of many pictures each thread decodes and answers some of its own; fewer than two for each thread are decoded, and
    then answered by all threads together, which is quickest for a single one. Each way has a session of its own, opened
    when it is first needed.
    """

    def __init__(self, sessions: Sessions, threads: int, batch: int, compute: Compute) -> None:
        self._sessions, self._threads, self._batch, self._compute = sessions, threads, batch, compute

    def ask(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """uint8 (N, S, S, C), N ≥ 1 → each of the outputs, (N, …)."""
        few = is_few(len(pixels), self._threads)
        session = self._sessions.of(1 if few else self._threads)
        group = self._batch if few else self._group_size(len(pixels))
        slices = [pixels[start : start + group] for start in range(0, len(pixels), group)]

        def answer(part: Pixels) -> list[Floats]:
            return self._compute(session, part, outputs)

        parts = list(map(answer, slices) if few else self._in_threads(answer, slices))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def restart(self, done: int, number: int) -> int:
        """See ``Predictor.restart``."""
        if done >= number:
            return number
        size = self._batch if is_few(number, self._threads) else self._group_size(number)
        start = done // size * size
        while start and is_few(number - start, self._threads) and not is_few(number, self._threads):
            start = max(0, start - size)
        return start

    def answered(
        self, items: Iterable[Item], number: int | None, prepare: Callable[[Item], Pixels], outputs: Sequence[str]
    ) -> Iterator[tuple[Item, list[Floats] | ImageError]]:
        """For each of ``number`` items, in order, a row of each output; or what ``prepare`` raised for it.

        ``prepare`` makes a square (S, S, C), in one of the threads.
        """

        def attempt(item: Item) -> Pixels | ImageError:
            try:
                return prepare(item)
            except ImageError as error:
                return error

        def answer(group: list[Item]) -> list[tuple[Item, list[Floats] | ImageError]]:
            return self._rows(session, group, [attempt(item) for item in group], outputs)

        queue = iter(items)
        first = list(islice(queue, 2 * self._threads))
        if not first:
            return
        few = is_few(len(first), self._threads)
        session = self._sessions.of(1 if few else self._threads)
        if few:
            squares = list(self._in_threads(attempt, first))
            for start in range(0, len(first), self._batch):
                part = slice(start, start + self._batch)
                yield from self._rows(session, first[part], squares[part], outputs)
        else:
            groups = batched(chain(first, queue), self._group_size(number))
            for answers in self._in_threads(answer, groups):
                yield from answers

    def _in_threads(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map_ordered(function, items, threads=self._threads, window=2 * self._threads)

    def _rows(
        self, session: Backend, items: list[Item], squares: list[Pixels | ImageError], outputs: Sequence[str]
    ) -> list[tuple[Item, list[Floats] | ImageError]]:
        """Each item with its row of each output, or with its error."""
        good = [square for square in squares if not isinstance(square, ImageError)]
        rows = zip(*self._compute(session, np.stack(good), outputs), strict=True) if good else iter(())
        return [
            (item, square if isinstance(square, ImageError) else list(next(rows)))
            for item, square in zip(items, squares, strict=True)
        ]

    def _group_size(self, pictures: int | None) -> int:
        """As many as ``batch``; of a few pictures so many that every thread has its share, twice."""
        return self._batch if pictures is None else max(1, min(self._batch, pictures // (2 * self._threads)))
