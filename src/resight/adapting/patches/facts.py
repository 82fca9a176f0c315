"""What the network says of every tile, asked once: the answer of any choice of tiles is then a weighted sum."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.exporting.int8.pictures import positions
from resight.images import tile_boxes, windows_of
from resight.inference import Predictor
from resight.inference.backend import ATTENTION, Floats, Pixels
from resight.inference.patches import AT_ONCE
from resight.inference.pooling import Pool
from resight.inference.tiled import LOGITS
from resight.runs.storage import write_atomic
from resight.samples import SampleSet

Ints = NDArray[np.int64]
_OFTEN = 50


@dataclass(frozen=True, eq=False)
class Facts:
    """Of N pictures with T tiles each, T of its own: windows uint8 (T, side, side, C), what the policy sees; attention
    float32 (T,) and logits float32 (T, K), what the network says in full; labels int64 (N,).
    """

    windows: tuple[Pixels, ...]
    attention: tuple[Floats, ...]
    logits: tuple[Floats, ...]
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def answer(self, picture: int, tiles: Ints) -> NDArray[np.float64]:
        """The logits (K,) of one picture from these of its tiles, n ≥ 1: as answering pools them."""
        pool = Pool()
        pool.add(self.attention[picture][tiles], self.logits[picture][tiles])
        return pool.result()[0]

    def whole(self) -> NDArray[np.float64]:
        """The logits (N, K) from all tiles."""
        return np.stack([self.answer(k, np.arange(len(self.attention[k]))) for k in range(len(self))])

    def save(self, path: Path) -> None:
        """Raises StorageError."""
        counts = np.array([len(one) for one in self.attention], np.int64)
        stream = io.BytesIO()
        np.savez(
            stream,
            counts=counts,
            labels=self.labels,
            windows=np.concatenate(self.windows),
            attention=np.concatenate(self.attention),
            logits=np.concatenate(self.logits),
        )
        write_atomic(path, stream.getvalue())


def load_facts(path: Path) -> Facts:
    """Raises RunError for a file that was damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            ends = np.cumsum(kept["counts"])[:-1]
            windows, attention, logits = (
                tuple(np.split(kept[name], ends)) for name in ("windows", "attention", "logits")
            )
            return Facts(windows, attention, logits, kept["labels"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise RunError(f"{path} is damaged: {error}", hint="remove its folder to start over") from error


def facts_of(
    predictor: Predictor, samples: SampleSet, part: str, tile: int, side: int, say: Callable[[str], None]
) -> Facts:
    """Looks at all tiles of a part's pictures with the Run's own network. tile, side: see ``Looking``.

    Raises what reading a picture raises.
    """
    assert predictor.tiled is not None
    card = predictor.run.card
    indices = positions(samples, part)
    windows, attention, logits = [], [], []
    for done, index in enumerate(indices):
        if done % _OFTEN == 0:
            say(f"looking at all tiles of the {part} pictures: {done:,} of {len(indices):,} …")
        picture = samples.read(samples.samples[index], card.channels, geometry=card.geometry)
        seen = [found for _, found in predictor.tiled.tiles(picture, (ATTENTION, LOGITS))]
        attention.append(np.concatenate([one[0] for one in seen]))
        logits.append(np.concatenate([one[1] for one in seen]))
        boxes = tile_boxes(card.geometry, *picture.shape[:2])
        windows.append(np.concatenate(list(windows_of(card.geometry, picture, boxes, tile, side, AT_ONCE))))
    labels = samples.targets([samples.samples[i] for i in indices])
    return Facts(tuple(windows), tuple(attention), tuple(logits), labels)


def drawn(facts: Facts, seed: int) -> list[Floats]:
    """For each picture a number at random for each tile, (T,)."""
    random = np.random.default_rng(seed)
    return [random.random(len(one), np.float32) for one in facts.attention]


Scores = Sequence[Floats]
