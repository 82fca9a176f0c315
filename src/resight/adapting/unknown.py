"""How the routes of a plan tell pictures that are unlike the training data. Needs no PyTorch.

Distances in the embeddings of different networks cannot be compared. So each route compares with training pictures as
it sees them itself, and its scores are divided by a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from resight.adapting.graphs import opened
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions
from resight.exporting.references import compared, how_well_known, reference_of
from resight.exporting.squares import squares
from resight.inference import UNLIKE, Reference
from resight.inference.backend import ROUTE, Backend, Floats, Pixels
from resight.inference.pipeline import batched
from resight.inference.plan import Compared, Plan, open_route
from resight.inference.unknown import NEIGHBOURS, ROUTED, describe, threshold
from resight.runs import Run
from resight.runs.storage import storage_errors
from resight.samples import SampleSet

LEAST = 19
"""Validation pictures that a threshold which keeps 95 % needs."""
_AT_ONCE = 256
_SMALLEST = 1e-6
"""Of a threshold: it is divided by, and 0 where validation repeats training pictures."""


@dataclass(frozen=True)
class Told:
    """unknown: of the card; empty where pictures are not told. routes: for each route, what the card says of it: its
    training pictures, its threshold, how many validation pictures took it, and whether the threshold is of these.
    """

    plan: Plan
    unknown: dict[str, Any]
    routes: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def tell(
    run: Run, samples: SampleSet, pixels: Pixels, draft: Path, plan: Plan, threads: int, say: Callable[[str], None]
) -> Told:
    """Gives each route of ``plan`` a reference beside its graph in ``draft``, of the training part of ``samples``, and
    a threshold from ``pixels``, uint8 (N, S, S, C), the validation part.

    The threshold of a route is the split-conformal one of the validation pictures that *take this route*: which route
    a picture takes does not depend on its label, so a new picture that is drawn as those of validation were, and takes
    the route, is called unknown with a probability of at most 5 %, and so is one of any route (Mondrian conformal
    prediction: Vovk et al. 2005, section 4.5; Angelopoulos and Bates 2023, section 4.1). That is exact for a rule which
    has not seen the validation pictures; the rule's thresholds and temperatures, a few numbers, were fitted on them.
    Of a route that fewer than 19 of them take, the threshold is that of *all* of validation, answered by it: these are
    other pictures than its own, so nothing is promised for it, which a note says.

    A plan without a training part or with fewer than 19 validation pictures tells nothing, and a note says why.

    Raises DataError for training pictures that cannot be read, RunError for answers that are not finite, StorageError.
    """
    none: tuple[dict[str, Any], ...] = tuple({} for _ in plan.routes)
    if not positions(samples, "train"):
        return Told(plan, {}, none, ("no picture is called unknown: the data has no training part to compare with",))
    if len(pixels) < LEAST:
        few = f"{len(pixels)} validation pictures are too few for a threshold ({LEAST} are needed)"
        say(f"unknown: {few}, so none is called so")
        return Told(plan, {}, none, (f"no picture is called unknown: {few}",))
    say("learning what is unknown to each route …")
    backends = [open_route(draft, route, threads) for route in plan.routes]
    references = _references(run, samples, pixels, backends, threads)
    made = []
    for route, reference in zip(plan.routes, references, strict=True):
        data = reference.to_bytes()
        with storage_errors(draft):
            (draft / route.reference_file).write_bytes(data)
        known = Compared(sha256(data).hexdigest(), min(NEIGHBOURS, len(reference.bank)), 1.0)
        made.append(replace(route, reference=known))
    plan = replace(plan, routes=tuple(made))
    scores, taken = answers(opened(draft, plan, threads), pixels, (UNLIKE, ROUTE))  # in units of 1: as they are

    def of_all(number: int) -> Floats:
        (embeddings,) = answers(backends[number], pixels, ("embedding",))
        return references[number].scorer(NEIGHBOURS)(embeddings)

    limits, own = thresholds(scores, taken, len(made), of_all)
    routes = [
        replace(route, reference=replace(route.reference, threshold=limit))
        for route, limit in zip(made, limits, strict=True)
        if route.reference is not None
    ]
    pictures = [len(reference.bank) for reference in references]
    unlike = (scores.astype(np.float64) / np.array(limits)[taken.astype(int)]).astype(np.float32)
    unknown = describe(unlike, max(pictures), limit=1.0) | {"score": ROUTED}
    mine = [int((taken == number).sum()) for number in range(len(made))]
    about = tuple(
        {"pictures": count, "threshold": limit, "validation": n, "own": was}
        for count, limit, n, was in zip(pictures, limits, mine, own, strict=True)
    )
    say(
        f"unknown: less like {_counted(pictures)} training pictures than 95 % of the validation pictures of the same "
        f"route; {how_well_known(unknown)}"
    )
    notes = tuple(
        f"{n} validation pictures take the route {route.name}, fewer than the {LEAST} that its own threshold of "
        "'unknown' needs: it has that of all validation pictures, and how many of its own it keeps is not known"
        for route, n, was in zip(made, mine, own, strict=True)
        if not was
    )
    return Told(replace(plan, routes=tuple(routes)), unknown, about, notes)


def thresholds(
    scores: Floats, taken: Floats, routes: int, of_all: Callable[[int], Floats]
) -> tuple[list[float], list[bool]]:
    """Of each route, the split-conformal threshold of the scores (N,) of those that took it, and whether these were
    enough; else that of all N ≥ 19 scores by this route, which ``of_all`` gives for its number.
    """
    limits, own = [], []
    for number in range(routes):
        limit = threshold(scores[taken == number])
        own.append(limit is not None)
        if limit is None:
            limit = threshold(of_all(number))
            assert limit is not None  # N is enough
        limits.append(max(limit, _SMALLEST))
    return limits, own


def _references(
    run: Run, samples: SampleSet, pixels: Pixels, backends: Sequence[Backend], threads: int
) -> list[Reference]:
    """Of each backend. Those whose embeddings are as wide have the same pictures, which are decoded once."""
    widths = [answers(backend, pixels[:1], ("embedding",))[0].shape[1] for backend in backends]
    found: dict[int, Reference] = {}
    for width in sorted(set(widths)):
        chosen = compared(samples, width, run.card.seed)
        asked = [number for number, own in enumerate(widths) if own == width]
        parts: dict[int, list[Floats]] = {number: [] for number in asked}
        for some in batched(squares(run, samples, chosen, threads), _AT_ONCE):
            stack = np.stack(some)
            for number in asked:
                parts[number] += answers(backends[number], stack, ("embedding",))
        found |= {number: reference_of(samples, chosen, np.concatenate(parts[number])) for number in asked}
    return [found[number] for number in range(len(backends))]


def _counted(pictures: Sequence[int]) -> str:
    least, most = min(pictures), max(pictures)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"
