"""A backend over several graphs: each picture takes the route that its plan says (`resight.inference.plan`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resight.errors import RunError, UsageError
from resight.evaluation import softmax
from resight.inference.backend import OUTPUTS, ROUTE, Backend, Floats, Pixels, read_graph
from resight.inference.heads import Head, resampled
from resight.inference.plan import AGAIN, Compared, Route, confidence, open_route, read_plan
from resight.inference.sharing import UNLIKE
from resight.inference.unknown import Reference, Scorer

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
    have the last route's h and w. ``unlike``, float32 (N,), of plans that tell unknown pictures: the score of the
    embedding that the route itself has, in the same run as its logits, in the route's own unit.
    """

    def __init__(
        self, path: Path, threads: int | None = None, *, sha256: str | None = None, callers: int | None = 1
    ) -> None:
        self.path = path
        self.plan = read_plan(path, sha256)
        self._routes = [open_route(path.parent, one, threads, callers or 1) for one in self.plan.routes]
        gate = self.plan.gate
        self._gate = None if gate is None else open_route(path.parent, gate, threads, callers or 1)
        self._scorers = [
            None if one.reference is None else self._scorer(one, one.reference) for one in self.plan.routes
        ]
        self._heads = [None if one.head is None else self._head(one) for one in self.plan.routes]

    def answer(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """See :class:`resight.inference.Backend`."""
        there = (*OUTPUTS, ROUTE, *((UNLIKE,) if self.plan.tells else ()))
        if unknown := [name for name in outputs if name not in there]:
            raise UsageError(f"unknown outputs: {', '.join(unknown)}; expected some of {', '.join(there)}")
        found = {}
        if _WHOLE in outputs:
            (found[_WHOLE],) = self._routes[-1].answer(pixels, (_WHOLE,))
        if set(outputs) - {_WHOLE}:
            told = UNLIKE in outputs
            logits, taken, unlike = (
                self._cascade(pixels, told) if self._gate is None else self._dispatched(self._gate, pixels, told)
            )
            found |= {"logits": logits, ROUTE: taken, UNLIKE: unlike}
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

    def _scorer(self, route: Route, told: Compared) -> Scorer:
        place = self.path.with_name(route.reference_file)
        try:
            known = Reference.from_bytes(read_graph(place, told.sha256))
        except ValueError as error:
            raise RunError(f"{place} is damaged: {error}", hint=AGAIN) from error
        if told.k > len(known.bank):
            raise RunError(f"{self.path} asks for neighbour {told.k:,} of {len(known.bank):,} in {place}", hint=AGAIN)
        return known.scorer(told.k)

    def _cascade(self, pixels: Pixels, told: bool) -> tuple[Floats, Floats, Floats]:
        """Logits (N, K), each divided by the temperature of its route, the routes (N,), and what is ``told`` (N,)."""
        waiting, taken = np.arange(len(pixels)), np.zeros(len(pixels), np.float32)
        logits, unlike = None, np.zeros(len(pixels), np.float32)
        for number in range(len(self._routes)):
            own, embedding = self._computed(number, pixels[waiting], told)
            logits = np.empty((len(pixels), own.shape[1]), np.float32) if logits is None else logits
            self._check_width(logits, own)
            logits[waiting], taken[waiting] = own, number  # those that go on are overwritten
            on = np.zeros(len(waiting), bool)
            if number < len(self.plan.thresholds):
                on = confidence(own, 1.0) < self.plan.thresholds[number]
            if embedding is not None and not on.all():
                unlike[waiting[~on]] = self._unlike(number, embedding[~on])
            waiting = waiting[on]
            if not len(waiting):
                break
        assert logits is not None  # a plan has two routes or more
        return logits, taken, unlike

    def _dispatched(self, gate: Backend, pixels: Pixels, told: bool) -> tuple[Floats, Floats, Floats]:
        """As ``_cascade``, by a policy."""
        (scores,) = gate.answer(pixels, ("logits",))
        if scores.shape[1] != len(self._routes):
            raise RunError(
                f"{self.path}: its policy chooses among {scores.shape[1]} routes, it has {len(self._routes)}"
            )
        taken = scores.argmax(axis=1)
        logits, unlike = None, np.zeros(len(pixels), np.float32)
        for number in map(int, np.unique(taken)):
            mine = np.flatnonzero(taken == number)
            own, embedding = self._computed(number, pixels[mine], told)
            logits = np.empty((len(pixels), own.shape[1]), np.float32) if logits is None else logits
            self._check_width(logits, own)
            logits[mine] = own
            if embedding is not None:
                unlike[mine] = self._unlike(number, embedding)
        assert logits is not None  # N ≥ 1
        return logits, taken.astype(np.float32), unlike

    def _computed(self, number: int, pixels: Pixels, told: bool) -> tuple[Floats, Floats | None]:
        """One run of a route: its logits, divided by its temperature, and its embeddings where they will be told."""
        logits, *more = self._routes[number].answer(pixels, ("logits", _WHOLE) if told else ("logits",))
        found: Floats = (logits / self.plan.routes[number].temperature).astype(np.float32)
        return found, more[0] if told else None

    def _unlike(self, number: int, embedding: Floats) -> Floats:
        """(N, D) → (N,), in the route's unit. Raises RunError for a reference of another width."""
        route, scorer = self.plan.routes[number], self._scorers[number]
        assert scorer is not None  # the plan tells
        assert route.reference is not None
        if embedding.shape[1] != scorer.width:
            place = self.path.with_name(route.reference_file)
            raise RunError(
                f"{place} is of embeddings of {scorer.width} numbers, {route.graph} answers with {embedding.shape[1]}",
                hint=AGAIN,
            )
        with np.errstate(all="ignore"):  # what overflows is refused by who asks: `Predictor`
            found: Floats = (scorer(embedding).astype(np.float64) / route.reference.unit).astype(np.float32)
        return found

    def _check_width(self, logits: Floats, own: Floats) -> None:
        if own.shape[1] != logits.shape[1]:
            raise RunError(f"the routes of {self.path} answer with different numbers of classes", hint=AGAIN)
