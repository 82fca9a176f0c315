"""Where attention over tiles begins: with what is rare among the tiles of the training pictures.

A bag of hundreds of tiles says only that one of them matters. While attention is even, the loss sees their mean, and an
object in two tiles of four hundred is lost in it: from few pictures nothing is learned (docs/experiments.md). An object
is rare, what surrounds it is not. So the attention is first fitted, without labels, to how unlike a tile is to all
others: β log d², d² its squared Mahalanobis distance in the embedding. Training goes on from there, and may unlearn it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resight.models.layers import GatedAttention
from resight.training.bags import Bags
from resight.training.loader import Pictures
from resight.training.randomness import generator, torch_seed

SHARPNESS = 6.0
"""β: a tile twice as far as another has 2^12 times its share."""
PICTURES, TILES = 128, 32_768
"""The most pictures that are looked at, and tiles of these that are fitted to."""
_STREAM = 21
_STEPS, _BATCH, _RATE = 400, 1024, 1e-2


def start_with_rare(objective: Bags, pictures: Pictures, say: Callable[[str], None]) -> None:
    """Fits the attention of a network that starts. A function of its weights, the pictures and the seed."""
    seed = objective.config.seed
    objective.eval()
    random = generator(seed, _STREAM)
    chosen = random.permutation(len(pictures))[:PICTURES]
    each = -(-TILES // len(chosen))
    rows = torch.cat([_some(objective.seen(pictures[int(index)]), each, random) for index in np.sort(chosen)])
    error, spread = fit(objective.net.attention, rows, seed)
    if not spread:
        say(f"attention starts from chance: {len(rows):,} tiles of {len(chosen):,} pictures are equally rare")
        return
    say(
        f"attention starts with what is rare among {len(rows):,} tiles of {len(chosen):,} pictures "
        f"(fitted to {max(0.0, 1 - error / spread):.0%})"
    )


def _some(rows: Tensor, most: int, random: np.random.Generator) -> Tensor:
    return rows[torch.from_numpy(np.sort(random.permutation(len(rows))[:most]))].clone()


def fit(attention: GatedAttention, rows: Tensor, seed: int) -> tuple[float, float]:
    """Fits the attention to β log d² of embeddings (N, D), N ≥ 2, less its mean, by least squares.

    It is fitted in whitened features, where all directions count alike, and rewritten for the features as they are. The
    covariance has a thousandth of its mean variance added, so that directions without any count for nothing. Returns
    the mean squared error at the end, and the variance of what it was fitted to.
    """
    mean, whitening = whiten(rows)
    white = (rows - mean) @ whitening
    target = SHARPNESS * white.square().sum(1).clamp_min(1e-12).log()
    target = target - target.mean()
    optimizer = torch.optim.Adam(attention.parameters(), _RATE)
    picks = torch.Generator().manual_seed(torch_seed(seed, _STREAM))
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        some = torch.randint(len(white), (_BATCH,), generator=picks).to(white.device)
        loss = F.mse_loss(attention(white[some]), target[some])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        error = float(F.mse_loss(attention(white), target))
        for layer in (attention.V, attention.U):
            layer.bias.sub_(layer.weight @ (mean @ whitening))
            layer.weight.copy_(layer.weight @ whitening.T)
    attention.zero_grad(set_to_none=True)
    return error, float(target.var())


def whiten(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) of rows (N, D), and W (D, D) so that (rows − mean) W has the unit matrix as its covariance."""
    exact = rows.double()
    mean = exact.mean(0)
    covariance = torch.cov((exact - mean).T)
    covariance += 1e-3 * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(len(mean), device=rows.device)
    values, vectors = torch.linalg.eigh(covariance)
    return mean.float(), (vectors * values.rsqrt()).float()
