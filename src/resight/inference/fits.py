"""Whether a graph answers what its card says, asked once when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resight.errors import RunError, UsageError
from resight.inference.backend import ATTENTION, Floats, Pixels
from resight.inference.tasks import FORMULAS, probabilities_of
from resight.runs import RunCard


def check_fits(graph: Path, card: RunCard, ask: Callable[[Pixels, Sequence[str]], list[Floats]]) -> int:
    """Asks for one picture of coloured noise: the shapes and the temperature must be those of the card. Returns the
    width of an embedding.

    Raises RunError, which names ``graph``, for one that does not fit.
    """
    if card.task == "features":
        return _width(graph, card, ask)
    size, channels, classes = card.geometry.size, card.channels, len(card.classes)
    try:
        noise = np.random.default_rng(0).integers(0, 256, (1, size, size, channels))
        noise //= np.arange(1, channels + 1)
        asked: tuple[str, ...] = ("probabilities", "logits", "embedding")
        if card.geometry.kind == "tiles":
            asked = (*asked, ATTENTION)
        probabilities, logits, embedding, *attention = ask(noise.astype(np.uint8), asked)
    except UsageError as error:
        raise RunError(f"{graph} does not fit the Run's card: {error.message}") from error
    if probabilities.shape != (1, classes) or logits.shape != (1, classes):
        raise RunError(f"{graph} answers with {probabilities.shape[-1]} classes, its card names {classes}")
    if np.abs(probabilities_of(card, logits) - probabilities).max() > 1e-4:
        raise RunError(
            f"{graph}: the probabilities are not {FORMULAS[card.task]}, with the "
            f"temperature {card.temperature:g} of the Run's card"
        )
    if attention and attention[0].shape != (1,):
        raise RunError(f"{graph} answers with attention of the shape {attention[0].shape}; expected one number a tile")
    return int(embedding.shape[1])


def _width(graph: Path, card: RunCard, ask: Callable[[Pixels, Sequence[str]], list[Floats]]) -> int:
    """Of a graph that answers with embeddings alone. Raises RunError as ``check_fits`` does."""
    size, channels = card.geometry.size, card.channels
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, channels)).astype(np.uint8)
    try:
        (embedding,) = ask(noise, ("embedding",))
    except UsageError as error:
        raise RunError(f"{graph} does not fit the Run's card: {error.message}") from error
    if embedding.ndim != 2 or len(embedding) != 1:
        raise RunError(f"{graph} answers with an embedding of the shape {embedding.shape}; expected one row")
    return int(embedding.shape[1])
