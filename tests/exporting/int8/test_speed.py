"""Rates: who is asked when, and what counts as faster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest

from resight.exporting.int8.speed import Rates, measure_rates


def test_the_sides_take_turns_in_batches_of_1_and_16() -> None:
    asked: list[tuple[str, int]] = []

    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def answer(self, pixels: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
            assert (pixels.dtype, pixels.shape[1:], tuple(outputs)) == (np.uint8, (4, 4, 3), ("probabilities",))
            asked.append((self.name, len(pixels)))
            return []

    found = measure_rates({name: Side(name) for name in "AB"}, (4, 4, 3), rounds=2, seconds=1e-4)
    assert [key for key, _ in groupby(asked)] == [("A", 1), ("B", 1), ("A", 16), ("B", 16)] * 2
    assert all(rates.one > 0 and rates.sixteen > 0 for rates in found.values())


@pytest.mark.parametrize(
    ("rates", "faster"),
    [(Rates(3, 30), True), (Rates(3, 20), False), (Rates(2, 30), False), (Rates(1.5, 40), False)],
)
def test_faster_is_faster_than_the_best_in_both_ways(rates: Rates, faster: bool) -> None:
    assert rates.faster_than([Rates(2, 10), Rates(1, 20)]) is faster
