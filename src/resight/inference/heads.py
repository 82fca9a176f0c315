"""The last linear layer behind a graph's ``features``: what makes maps of classes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from resight.inference.backend import Floats

HEAD, BIAS = "fc.weight", "fc.bias"


@dataclass(frozen=True, eq=False)
class Head:
    """``weights`` float32 (K, D), ``bias`` float32 (K,): logits = weights · mean of the features over places + bias."""

    weights: Floats
    bias: Floats

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[np.floating]], classes: int) -> Head | None:
        """From tensors by torchvision's names; None where there is no such layer of ``classes`` classes."""
        weights, bias = tensors.get(HEAD), tensors.get(BIAS)
        if weights is None or bias is None or weights.ndim != 2 or len(weights) != classes or bias.shape != (classes,):
            return None
        return cls(weights.astype(np.float32), bias.astype(np.float32))

    @classmethod
    def nothing(cls, classes: int) -> Head:
        """For features that are maps of the classes already: see `maps`."""
        return cls(np.eye(classes, dtype=np.float32), np.zeros(classes, np.float32))

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Raises ValueError for what `to_bytes` has not made."""
        try:
            tensors = load(data)
            found = cls.of(tensors, len(tensors[BIAS]))
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"it holds no last layer: {error}") from error
        if found is None:
            raise ValueError("it holds no last layer")
        return found

    def to_bytes(self) -> bytes:
        return save({HEAD: np.ascontiguousarray(self.weights), BIAS: np.ascontiguousarray(self.bias)})

    def maps(self, features: Floats) -> Floats:
        """(N, D, h, w) → (N, K, h, w): a map for each class, whose mean is its logit (Zhou et al. 2016, section 2)."""
        found: Floats = np.matmul(self.weights, features.reshape(*features.shape[:2], -1)).reshape(
            len(features), len(self.bias), *features.shape[2:]
        )
        found += self.bias[:, None, None]
        return found


def resampled(maps: Floats, height: int, width: int) -> Floats:
    """Maps (…, h, w) → (…, height, width): each cell is the mean of what it covers, so that no map's mean changes."""
    rows, columns = _covering(maps.shape[-2], height), _covering(maps.shape[-1], width)
    found: Floats = np.asarray(rows @ maps @ columns.T, np.float32)
    return found


def _covering(before: int, after: int) -> Floats:
    """float32 (after, before): which part of each of ``before`` cells lies in each of ``after``; rows add up to 1."""
    edges = np.arange(after + 1) * before / after
    cells = np.arange(before)
    covered = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    found: Floats = np.asarray(np.clip(covered, 0, None) * after / before, np.float32)
    return found
