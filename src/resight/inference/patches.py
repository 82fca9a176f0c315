"""``patches.json``: which tiles of a picture are looked at, decided from the whole picture at low resolution.

Every tile is scored from a coarse window about it (`resight.images.windows_of`); the network computes those with the
best scores, a fixed share of the picture's, and its attention is shared out among them alone (Uzkent and Ermon 2020:
PatchDrop, with bags of tiles for the picture). The score is a policy's, or the detail that the tile has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.evaluation import softmax
from resight.images import Geometry, windows_of
from resight.images.tiles import Boxes
from resight.inference.backend import PATCHES, Backend, Floats, Pixels, open_backend, read_graph
from resight.inference.plan import Route, is_positive, read_route
from resight.runs import Artifact
from resight.runs.plain_json import json_bytes, read_json

PLAN = "patches.json"
LOOKED = "looked"
"""float32 (2,) of a picture: how many of its tiles were looked at in full, and how many it has."""
AGAIN = "make it again: resight adapt RUN DATA --by patches"
SCHEMA, AT_ONCE = 1, 1024
_MOST = 64  # pixels of a side


@dataclass(frozen=True)
class Looking:
    """tile: pixels of a tile's side in the coarse picture. side: of the window that is seen about it. share: of a
    picture's tiles that are looked at, 0 … 1. policy: its graph, whose ``logits`` (N, 1) score N windows; None: the
    score is `detail`. network: that of the tiles, whose answers have the ``temperature``.
    """

    tile: int
    side: int
    share: float
    policy: Route | None
    network: Route
    temperature: float = 1.0

    @property
    def graphs(self) -> list[dict[str, str]]:
        """As the artefact's card names them."""
        return [{"name": one.name, "backend": one.backend} for one in (self.policy, self.network) if one]

    def to_json(self) -> bytes:
        return json_bytes({"schema": SCHEMA} | asdict(self))


def looked_at(share: float, tiles: int) -> int:
    """How many of a picture's tiles are looked at: to the nearest, at least one."""
    return max(1, min(tiles, round(share * tiles)))


def best(scores: Floats, number: int) -> NDArray[np.int64]:
    """Positions of the ``number`` largest of (N,), in rising order; of equal ones the earlier."""
    found: NDArray[np.int64] = np.sort(np.argsort(-scores, kind="stable")[:number])
    return found


def detail(windows: Pixels, tile: int) -> Floats:
    """The variance of the ``tile`` pixels a side in the middle of windows uint8 (N, side, side, C), all channels
    together: float32 (N,).
    """
    start = (windows.shape[1] - tile) // 2
    inner = windows[:, start : start + tile, start : start + tile].reshape(len(windows), -1)
    found: Floats = inner.astype(np.float64).var(axis=1).astype(np.float32)
    return found


def read_looking(path: Path, sha256: str | None) -> Looking:
    """Raises RunError for a file that was changed, and for anything that is not such a plan of this schema."""
    data = read_graph(path, sha256)
    try:
        plain = read_json(data)
        if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        policy, network = (plain.pop(name) for name in ("policy", "network"))
        policy, network = None if policy is None else read_route(policy), read_route(network)
        found = Looking(**plain, policy=policy, network=network)
        _check(found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path} does not say which tiles are looked at: {error}", hint=AGAIN) from error
    return found


def check_looking(artifact: Artifact) -> None:
    """Raises RunError for an artefact that chooses among tiles where there are none, and for one whose card names other
    graphs than its plan.
    """
    card = artifact.card
    if card.backend != PATCHES:
        return
    if artifact.run_card.geometry.kind != "tiles":
        raise RunError(f"{artifact.path} chooses among tiles, and its Run cuts pictures into none", hint=AGAIN)
    said = card.adaptive.get("graphs")
    if said != read_looking(artifact.graph, artifact.sha256).graphs:
        raise RunError(f"the card and the plan of {artifact.path} name different graphs", hint=AGAIN)


def _check(found: Looking) -> None:
    for name in ("tile", "side"):
        value = getattr(found, name)
        if type(value) is not int or not 1 <= value <= _MOST:
            raise ValueError(f"{name} is {value!r}; expected 1 to {_MOST}")
    if found.side < found.tile:
        raise ValueError("a window is smaller than its tile")
    if isinstance(found.share, bool) or not isinstance(found.share, int | float) or not 0 < found.share <= 1:
        raise ValueError(f"the share is {found.share!r}; expected above 0, at most 1")
    if not is_positive(found.temperature):
        raise ValueError(f"its temperature is {found.temperature!r}")


class Patches:
    """``patches.json`` and the graphs beside it, as a backend of tiles that also chooses among them; the arguments
    are those of ``OnnxRuntime``. Safe to call from several threads.

    Which tiles are chosen depends on the picture alone, so a picture alone and among others gets the same answer;
    except where two scores about the last place are equal to the rounding of a runtime (about 1e-7).
    """

    def __init__(
        self, path: Path, threads: int | None = None, *, sha256: str | None = None, callers: int | None = 1
    ) -> None:
        self.path = path
        self.plan = read_looking(path, sha256)

        def opened(one: Route) -> Backend:
            place = path.with_name(one.graph)
            return open_backend(
                one.backend, place, threads, sha256=one.sha256, weights=one.weights, callers=callers or 1
            )

        self._policy = None if self.plan.policy is None else opened(self.plan.policy)
        self._network = opened(self.plan.network)

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """Of tiles; see :class:`resight.inference.Backend`."""
        asked = ["logits" if name == "probabilities" else name for name in outputs]
        found = self._network.answer(pixels, asked)
        return [
            softmax(array / self.plan.temperature).astype(np.float32) if name == "probabilities" else array
            for name, array in zip(outputs, found, strict=True)
        ]

    def chosen(self, geometry: Geometry, picture: Pixels, boxes: Boxes) -> Boxes:
        """Those of a picture's tiles, int64 (N, 4), that are looked at: (n, 4), n ≥ 1, in the same order."""
        return boxes[best(self.scores(geometry, picture, boxes), looked_at(self.plan.share, len(boxes)))]

    def scores(self, geometry: Geometry, picture: Pixels, boxes: Boxes) -> Floats:
        """How much each of a picture's tiles is worth a look, (N,). Raises RunError for what a policy does not know."""
        return self.scores_of_windows(windows_of(geometry, picture, boxes, self.plan.tile, self.plan.side, AT_ONCE))

    def scores_of_windows(self, windows: Iterable[Pixels]) -> Floats:
        """The same of the windows uint8 (n, side, side, C) themselves, in order, some at a time."""
        if self._policy is None:
            return np.concatenate([detail(seen, self.plan.tile) for seen in windows])
        found = np.concatenate([self._policy.answer(seen, ("logits",))[0] for seen in windows])
        if found.ndim != 2 or found.shape[1] != 1 or not np.isfinite(found).all():
            raise RunError(f"the policy of {self.path} does not give one number for each tile", hint=AGAIN)
        return found[:, 0]
