"""A backend over several graphs: each picture takes the route that its plan says (`resight.inference.plan`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resight.errors import RunError, UsageError
from resight.evaluation import softmax
from resight.inference.backend import OUTPUTS, ROUTE, Backend, Floats, Pixels, open_backend, read_graph
from resight.inference.heads import Head, resampled
from resight.inference.plan import AGAIN, Route, confidence, read_plan

_WHOLE = "embedding"
"""What comes from the whole network, whatever the route that a picture takes: embeddings of several graphs cannot be
compared with each other.
"""


class Adaptive:
    """``adaptive.json`` and the graphs beside it; the arguments are those of ``OnnxRuntime``. Safe to call from several
    threads.

    A batch is split by route, and the answers come back in the order of the pictures. What a route answers for a
    picture does not depend on the others, so a picture alone and in a batch gets the same answer, as with one graph;
    except where its confidence equals a threshold to the rounding of a runtime (about 1e-7): it may go another way.

    Besides the contract there is ``route``, float32 (N,): which graph answered, from 0. ``embedding`` is the whole
    network's for every picture: asking for it computes it. ``features`` are those of the route that a picture takes,
    already as maps of the classes, (N, K, h, w), whose means are the logits: networks differ in what channels mean. All
    have the last route's h and w.
    """

    def __init__(
        self, path: Path, threads: int | None = None, *, sha256: str | None = None, callers: int | None = 1
    ) -> None:
        self.path = path
        self.plan = read_plan(path, sha256)

        def opened(one: Route) -> Backend:
            place = path.with_name(one.graph)
            return open_backend(
                one.backend, place, threads, sha256=one.sha256, weights=one.weights, callers=callers or 1
            )

        self._routes = [opened(one) for one in self.plan.routes]
        self._gate = None if self.plan.gate is None else opened(self.plan.gate)
        self._heads = [None if one.head is None else self._head(one) for one in self.plan.routes]

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`resight.inference.Backend`."""
        if unknown := [name for name in outputs if name not in (*OUTPUTS, ROUTE)]:
            raise UsageError(f"unknown outputs: {', '.join(unknown)}; expected some of {', '.join((*OUTPUTS, ROUTE))}")
        found = {}
        if _WHOLE in outputs:
            (found[_WHOLE],) = self._routes[-1].answer(pixels, (_WHOLE,))
        if set(outputs) - {_WHOLE}:
            logits, taken = self._cascade(pixels) if self._gate is None else self._dispatched(self._gate, pixels)
            found |= {"logits": logits, ROUTE: taken}
            if "probabilities" in outputs:
                found["probabilities"] = softmax(logits / self.plan.temperature).astype(np.float32)
            if "features" in outputs:
                found["features"] = self._maps(pixels, taken)
        return [found[name] for name in outputs]

    def _maps(self, pixels: Pixels, taken: Floats) -> Floats:
        """(N, K, h, w). Raises RunError where the plan has no last layer of a route."""
        (whole,) = self._routes[-1].answer(pixels[:1], ("features",))
        places, maps = [], []
        for number in np.unique(taken).astype(int):
            head, route = self._heads[number], self.plan.routes[number]
            if head is None:
                raise RunError(f"{self.path}: there are no class activation maps of the route {route.name}", hint=AGAIN)
            mine = np.flatnonzero(taken == number)
            (features,) = self._routes[number].answer(pixels[mine], ("features",))
            places.append(mine)
            maps.append(resampled(head.maps(features) / np.float32(route.temperature), *whole.shape[2:]))
        found: Floats = np.concatenate(maps)[np.argsort(np.concatenate(places))]
        return found

    def _head(self, route: Route) -> Head:
        place = self.path.with_name(route.head_file)
        try:
            return Head.from_bytes(read_graph(place, route.head))
        except ValueError as error:
            raise RunError(f"{place} is no last layer of a network: {error}", hint=AGAIN) from error

    def _cascade(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """Logits (N, K), each divided by the temperature of its route, and the routes (N,)."""
        waiting, taken = np.arange(len(pixels)), np.zeros(len(pixels), np.float32)
        logits: Floats | None = None
        for number, one in enumerate(self.plan.routes):
            own = self._logits(number, pixels[waiting])
            logits = np.empty((len(pixels), own.shape[1]), np.float32) if logits is None else logits
            self._check_width(logits, own)
            logits[waiting], taken[waiting] = own, number  # those that go on are overwritten
            if number < len(self.plan.thresholds):
                waiting = waiting[confidence(own, 1.0) < self.plan.thresholds[number]]
            if not len(waiting) or one is self.plan.routes[-1]:
                break
        assert logits is not None  # a plan has two routes or more
        return logits, taken

    def _dispatched(self, gate: Backend, pixels: Pixels) -> tuple[Floats, Floats]:
        (scores,) = gate.answer(pixels, ("logits",))
        if scores.shape[1] != len(self._routes):
            raise RunError(
                f"{self.path}: its policy chooses among {scores.shape[1]} routes, it has {len(self._routes)}"
            )
        taken = scores.argmax(axis=1)
        logits: Floats | None = None
        for number in np.unique(taken):
            mine = np.flatnonzero(taken == number)
            own = self._logits(int(number), pixels[mine])
            logits = np.empty((len(pixels), own.shape[1]), np.float32) if logits is None else logits
            self._check_width(logits, own)
            logits[mine] = own
        assert logits is not None  # N ≥ 1
        return logits, taken.astype(np.float32)

    def _logits(self, number: int, pixels: Pixels) -> Floats:
        (logits,) = self._routes[number].answer(pixels, ("logits",))
        found: Floats = (logits / self.plan.routes[number].temperature).astype(np.float32)
        return found

    def _check_width(self, logits: Floats, own: Floats) -> None:
        if own.shape[1] != logits.shape[1]:
            raise RunError(f"the routes of {self.path} answer with different numbers of classes", hint=AGAIN)
