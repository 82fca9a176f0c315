"""Noise of sensors: too little light, too few photons, dead or stuck pixels. float32 (H, W, C) in 0 … 1."""

from __future__ import annotations

import numpy as np

from resight.evaluation.corruptions.filters import Floats


def gaussian_noise(x: Floats, random: np.random.Generator, deviation: float) -> Floats:
    """Each value plus a normal number."""
    return x + deviation * random.standard_normal(x.shape, np.float32)


def shot_noise(x: Floats, random: np.random.Generator, photons: float) -> Floats:
    """Light counted photon by photon: Poisson, ``photons`` for white."""
    return (random.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: Floats, random: np.random.Generator, share: float) -> Floats:
    """Salt and pepper: this share of the values, each channel for itself, becomes 0 or 1."""
    drawn = random.random(x.shape, np.float32)
    found: Floats = np.where(drawn < share, (drawn < share / 2).astype(np.float32), x)
    return found
