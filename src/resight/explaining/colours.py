"""A perceptually even colour map, as a small table: black through violet and orange to pale yellow.

The 17 colours are matplotlib's ``inferno`` (Smith and van der Walt 2015, CC0) at equal distances; in between they are
interpolated. Its lightness rises evenly, so equal steps of heat look equally large, also without colour vision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TABLE = """
000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754
d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4
"""
_COLOURS = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in TABLE.split()], np.float32)


def colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours of values in 0 … 1 (others are cut): (…) → float32 (…, 3) in 0 … 255."""
    position = np.clip(values, 0, 1) * (len(_COLOURS) - 1)
    low = np.minimum(position.astype(np.intp), len(_COLOURS) - 2)
    share = (position - low)[..., None].astype(np.float32)
    mixed: NDArray[np.float32] = _COLOURS[low] * (1 - share) + _COLOURS[low + 1] * share
    return mixed
