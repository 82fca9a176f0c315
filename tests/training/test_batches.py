"""Batches on their way to a device. The meta device stands for a GPU: it shows what is moved, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from resight.training.batches import ahead, to_device
from resight.training.loader import Batch

from .tiny import start

META = torch.device("meta")


def test_on_the_cpu_nothing_moves_and_nothing_is_held_back(patterns: Path, tmp_path: Path) -> None:
    loader = start(tmp_path / "run", patterns).loader
    batch = loader.make(0)
    assert to_device(batch, torch.device("cpu")) is batch
    made: list[int] = []

    def batches() -> Iterator[Batch]:
        for step in range(3):
            made.append(step)
            yield loader.make(step)

    for batch in ahead(batches(), torch.device("cpu")):
        assert made[-1] == batch.step


def test_the_next_batch_is_moved_before_the_one_at_hand_is_used(patterns: Path, tmp_path: Path) -> None:
    loader = start(tmp_path / "run", patterns).loader
    made: list[int] = []

    def batches() -> Iterator[Batch]:
        for step in range(3):
            made.append(step)
            yield loader.make(step)

    used = []
    for batch in ahead(batches(), META):
        used.append(batch.step)
        assert made[-1] == min(2, batch.step + 1)
        assert batch.pixels.is_meta
        assert batch.labels.is_meta
        assert batch.pixels.shape == (8, 3, 28, 28)
    assert used == [0, 1, 2]
    assert list(ahead([], META)) == []
