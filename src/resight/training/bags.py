"""Pictures as bags of tiles: cut for the loader, learned from, and answered in PyTorch (Ilse et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resight.images import Geometry, cut, tile_boxes, tiles_of
from resight.inference.pooling import Pool
from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.training.augment import apply
from resight.training.batches import rows_of
from resight.training.loader import Batch, Pictures
from resight.training.multilabel import targets_of
from resight.training.objective import Inputs, Logs, Normalize, Objective, Supervised
from resight.training.parts import set_training
from resight.training.randomness import uniforms

AT_ONCE = 64
"""Tiles that the network sees at a time where it does not learn."""
_DRAWN_STREAM = 0x7113  # added to the epoch, so that a tile's draw is none of its picture's augmentations


class Bags(Supervised):
    """The labels' loss of pooled tiles: softmax over the attention of a picture's tiles (their eq. 7 and 9).

    A batch holds either the tiles' pixels, uint8 (B, T, C, S, S), or what a frozen network sees in them, float32
    (B, T, D). Of pixels, an update learns from at most ``tiles.bag`` tiles of each picture: those to which the network,
    as it answers now, gives most attention, and others drawn by (seed, step, picture). Each picture's tiles are
    augmented alike.
    """

    geometry: Geometry

    def __init__(
        self, net: ResNet, config: TrainConfig, geometry: Geometry, counts: NDArray[np.int64] | None = None
    ) -> None:
        super().__init__(net, config, counts)
        self.geometry = geometry

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        assert batch.tiles is not None
        rows, there = self.embedded(batch) if batch.pixels.ndim == 5 else (batch.pixels, _there(batch))
        scores = self.net.attention(rows.flatten(0, 1)).view(rows.shape[:2]).float()
        weights = scores.masked_fill(~there, -torch.inf).softmax(1)
        pooled = (weights[..., None] * rows).sum(1)
        return self.outcome(self.net.fc(pooled).float(), self.targets(batch), batch)

    def targets(self, batch: Batch) -> Inputs:
        """What the loss compares with: pictures are not mixed."""
        towards = None if self.adjustment is None else self.adjustment.softmax(0)
        targets = targets_of(self.config, batch.labels, self.net.num_classes, towards)
        weights = None if self.class_weights is None else self.class_weights[batch.labels]
        return Inputs(batch.pixels, targets, weights)

    def embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of the tiles that are learned from, float32 (B, t, D), and which of them are real, bool (B, t)."""
        chosen, there = self.choose(batch)
        picture = torch.arange(len(chosen), device=chosen.device)[:, None]
        tiles = batch.pixels[picture, chosen].flatten(0, 1).contiguous(memory_format=torch.channels_last)
        parameters = rows_of(batch.parameters, np.repeat(np.arange(len(chosen)), chosen.shape[1]))
        real = there.flatten()
        tiles = apply(self.config.augment, tiles, parameters)[real]  # none that is padding in the norms' statistics
        seen = self.net.embedding(self._prepared(tiles)).float()
        rows = seen.new_zeros(len(real), seen.shape[1])
        rows = rows.index_put((real.nonzero().squeeze(1),), seen)
        return rows.view(*there.shape, -1), there

    @torch.no_grad()
    def choose(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Which tiles of each picture are learned from, int64 (B, t), and which of these are real, bool (B, t)."""
        there, config = _there(batch), self.config.tiles
        count = there.shape[1]
        if count <= config.bag:
            return torch.arange(count, device=there.device).expand(len(there), -1), there
        attention = self._attention(batch.pixels.flatten(0, 1), there.flatten()).view(there.shape)
        drawn = round(config.drawn * config.bag)
        chance = uniforms(self.config.seed, batch.step + (_DRAWN_STREAM << 16), batch.indices, count)
        order = attention.argsort(dim=1, descending=True, stable=True)
        most = order[:, : config.bag - drawn]
        luck = torch.from_numpy(chance).to(there.device).masked_fill(~there, -1).scatter(1, most, -2)
        others = luck.argsort(dim=1, descending=True, stable=True)[:, :drawn]
        chosen = torch.cat([most, others], 1).sort(1).values
        return chosen, there.gather(1, chosen)

    def _attention(self, tiles: Tensor, there: Tensor) -> Tensor:
        """By the network as it answers: float32 (N,), −∞ for what is not there."""
        self.net.eval()
        parts: list[Tensor] = []
        for start in range(0, len(tiles), AT_ONCE):
            seen = self.net.embedding(self._prepared(tiles[start : start + AT_ONCE]))
            parts.append(self.net.attention(seen).float())
        set_training(self.net, self.config.model)
        return torch.cat(parts).masked_fill(~there, -torch.inf)

    def _prepared(self, tiles: Tensor) -> Tensor:
        images: Tensor = self.normalize(tiles).contiguous(memory_format=torch.channels_last)
        return images

    def answers(self, pictures: Pictures, indices: NDArray[np.int64]) -> Iterator[Tensor]:
        """Logits of the pictures ``indices``, in order: float32 (1, K) each. In evaluation mode."""
        for index in indices:
            yield self.answer(pictures[int(index)])[None]

    @torch.inference_mode()
    def answer(self, picture: NDArray[np.generic]) -> Tensor:
        """Logits (K,) of one picture: uint8 (H, W, C), or what a frozen network sees of its tiles, float32 (T, D)."""
        device = next(self.parameters()).device
        pool = Pool()
        for rows in self._rows(picture, device):
            pool.add(self.net.attention(rows).float().cpu().numpy(), self.net.fc(rows).float().cpu().numpy())
        return torch.from_numpy(pool.result()[0].astype(np.float32)).to(device)

    @torch.no_grad()
    def seen(self, picture: NDArray[np.generic]) -> Tensor:
        """The embeddings of a picture's tiles, float32 (T, D), as they are answered."""
        device = next(self.parameters()).device
        return torch.cat([rows.float() for rows in self._rows(picture, device)])

    def _rows(self, picture: NDArray[np.generic], device: torch.device) -> Iterator[Tensor]:
        if picture.ndim == 2:
            yield torch.from_numpy(picture).to(device)
            return
        yield from embeddings(self.net, self.normalize, self.geometry, picture.astype(np.uint8, copy=False), device)


def embeddings(
    net: ResNet, normalize: Normalize, geometry: Geometry, picture: NDArray[np.uint8], device: torch.device
) -> Iterator[Tensor]:
    """Of all tiles of uint8 (H, W, C), ``AT_ONCE`` at a time: float32 (n, D)."""
    for _, tiles in tiles_of(geometry, picture, AT_ONCE):
        pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).to(device)
        yield net.embedding(normalize(pixels).contiguous(memory_format=torch.channels_last))


class Embedded(Pictures):
    """Pictures as a frozen network sees them: ``pictures[i]`` is float32 (T, D), a row for each tile.

    All are seen once, when the first is asked for (by then a training that goes on has its weights), and kept in
    memory: 4 · T · D bytes each.
    """

    def __init__(self, pictures: Pictures, objective: Bags, say: Callable[[str], None], what: str) -> None:
        super().__init__(pictures.samples, _unread, 0, targets=pictures.labels)
        self._pictures, self._objective, self._say, self._what = pictures, objective, say, what
        self._rows: list[NDArray[np.float32]] = []

    def ready(self) -> None:
        with self._lock:
            if not self._rows:
                self._say(f"the frozen network looks once at the tiles of {len(self):,} {self._what} pictures")
                self._rows = [self._seen(index) for index in range(len(self))]

    @torch.inference_mode()
    def _seen(self, index: int) -> NDArray[np.float32]:
        objective, picture = self._objective, self._pictures[index]
        objective.net.eval()  # whoever trains sets its mode before each update
        device = next(objective.parameters()).device
        parts = embeddings(objective.net, objective.normalize, objective.geometry, picture, device)
        rows: NDArray[np.float32] = torch.cat([part.float().cpu() for part in parts]).numpy()
        return rows

    def __getitem__(self, index: int) -> NDArray[np.float32]:  # type: ignore[override]
        self.ready()
        return self._rows[index]


def seen_by(
    objective: Objective, train: Pictures, val: Pictures, say: Callable[[str], None]
) -> tuple[Pictures, Pictures]:
    """The parts as the objective takes them: themselves, or, of tiles and a frozen network, what that sees of them."""
    if not isinstance(objective, Bags) or objective.config.model.freeze != "backbone":
        return train, val
    return Embedded(train, objective, say, "training"), Embedded(val, objective, say, "validation")


def _unread(*_: object) -> NDArray[np.uint8]:
    raise AssertionError("embedded pictures are not read")


def bag_batch(pictures: Pictures, indices: NDArray[np.int64], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """The tiles of some pictures, and how many each has, int64 (B,); the rest, up to the largest, is zero.

    uint8 (B, T, C, S, S), channels-last in memory; of ``Embedded`` pictures float32 (B, T, D).
    """
    bags = [_bag(pictures[int(index)], geometry) for index in indices]
    count = torch.tensor([len(bag) for bag in bags])
    padded = [F.pad(bag, (0, 0) * (bag.ndim - 1) + (0, int(count.max()) - len(bag))) for bag in bags]
    return torch.stack(padded).movedim(-1, 2) if padded[0].ndim == 4 else torch.stack(padded), count


def _bag(picture: NDArray[np.generic], geometry: Geometry) -> Tensor:
    """Its tiles, uint8 (T, S, S, C), or float32 (T, D) as they are."""
    if picture.ndim == 2:
        return torch.from_numpy(picture)
    pixels = picture.astype(np.uint8, copy=False)
    return torch.from_numpy(cut(geometry, pixels, tile_boxes(geometry, *pixels.shape[:2])))


def _there(batch: Batch) -> Tensor:
    """Which tiles of a batch are real: bool (B, T)."""
    assert batch.tiles is not None
    position = torch.arange(batch.pixels.shape[1], device=batch.pixels.device)
    return position < batch.tiles.to(batch.pixels.device)[:, None]
