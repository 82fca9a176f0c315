"""Random numbers as a pure function of (seed, epoch, picture): the same for any worker, rank, order or resume.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a block cipher on counters, so
any number of any stream is computed directly; NumPy's own Philox would need one generator object per picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32. counter: (..., 4) of 32-bit values, key: two 32-bit values → (..., 4) uint32."""
    x0, x1, x2, x3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (p1 >> _32) ^ x1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _32) ^ x3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """``count`` numbers in [0, 1) for each picture. indices: (B,) → float64 (B, count)."""
    blocks = -(-count // 4)
    counter = np.zeros((len(indices), blocks, 4), np.uint64)
    counter[..., 0] = np.arange(blocks, dtype=np.uint64)
    counter[..., 1] = (indices.astype(np.uint64) & _LOW)[:, None]
    counter[..., 2] = (indices.astype(np.uint64) >> _32)[:, None]
    numbers = philox(counter, (seed & 0xFFFFFFFF, epoch & 0xFFFFFFFF))
    whole = numbers.reshape(len(indices), -1)[:, :count].astype(np.float64)
    return np.ldexp(whole, -32)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for each (seed, stream…), for what belongs to a step or an epoch as a whole."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *stream])))


def torch_seed(seed: int, *stream: int) -> int:
    """A seed for ``torch.manual_seed``: 32 bits, since PyTorch's CPU generator ignores all higher ones."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])
