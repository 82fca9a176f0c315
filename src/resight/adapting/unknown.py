"""How the routes of a plan tell pictures that are unlike the training data. Needs no PyTorch.

Distances in the embeddings of different networks cannot be compared. So each route compares with training pictures as
it sees them itself, and its scores are in a unit of its own: how far these pictures lie from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from resight.adapting.graphs import opened
from resight.evaluation import wilson
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions
from resight.exporting.references import compared, how_well_known, reference_of
from resight.exporting.squares import squares
from resight.inference import UNLIKE, Reference
from resight.inference.backend import ROUTE, Floats, Pixels
from resight.inference.pipeline import batched
from resight.inference.plan import Compared, Plan, open_route
from resight.inference.unknown import KEPT, NEIGHBOURS, ROUTED, describe, threshold
from resight.runs import Run
from resight.runs.storage import storage_errors
from resight.samples import SampleSet

_AT_ONCE = 256
_SMALLEST = 1e-6
"""Of a unit: scores are divided by it, and training pictures may be all alike."""


@dataclass(frozen=True)
class Told:
    """unknown: of the card; empty where pictures are not told. routes: for each route, what the card says of it: how
    many training pictures it compares with, its unit, how many validation pictures took it, and which share of these is
    called unknown, with Wilson's 95 % interval.
    """

    plan: Plan
    unknown: dict[str, Any]
    routes: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def tell(
    run: Run, samples: SampleSet, pixels: Pixels, draft: Path, plan: Plan, threads: int, say: Callable[[str], None]
) -> Told:
    """Gives each route of ``plan`` a reference beside its graph in ``draft``, of the training part of ``samples``, and
    finds the threshold that all share, from ``pixels``, uint8 (N, S, S, C), the validation part.

    A route's unit comes from training pictures alone (`spread`). So the score of a picture, that of the route which it
    takes, is one function that has not seen validation, and the split-conformal threshold holds as for a Run: a new
    picture that is drawn as those of validation were is called unknown with a probability of at most 5 %
    (`threshold`). Which route it takes was fitted on validation by a few numbers, the rule's; for these it is not
    exact. The 5 % are of all pictures, not of each route's: those that go on are harder and more unlike, and of them
    more are called so, as the whole network alone would. A threshold for each route (Mondrian conformal prediction,
    Vovk et al. 2005) keeps 95 % of each, and calls fewer foreign pictures unknown: docs/adaptive.md.

    A plan without a training part or with fewer than 19 validation pictures tells nothing, and a note says why.

    Raises DataError for training pictures that cannot be read, RunError for answers that are not finite, StorageError.
    """
    none: tuple[dict[str, Any], ...] = tuple({} for _ in plan.routes)
    if not positions(samples, "train"):
        missing = "the data has no training part to compare with"
        say(f"unknown: {missing}, so none is called so")
        return Told(plan, {}, none, (f"no picture is called unknown: {missing}",))
    if threshold(np.zeros(len(pixels), np.float32)) is None:
        few = f"{len(pixels)} validation pictures are too few for a threshold (19 are needed)"
        say(f"unknown: {few}, so none is called so")
        return Told(plan, {}, none, (f"no picture is called unknown: {few}",))
    say("learning what is unknown to each route …")
    made, about, counts = [], [], []
    for route, (reference, unit) in zip(
        plan.routes, _references(run, samples, pixels, draft, plan, threads), strict=True
    ):
        data = reference.to_bytes()
        with storage_errors(draft):
            (draft / route.reference_file).write_bytes(data)
        pictures = len(reference.bank)
        made.append(replace(route, reference=Compared(sha256(data).hexdigest(), _neighbours(pictures), unit)))
        about.append({"pictures": pictures, "unit": unit})
        counts.append(pictures)
    told = replace(plan, routes=tuple(made))
    unlike, taken = answers(opened(draft, told, threads), pixels, (UNLIKE, ROUTE))
    unknown = describe(unlike, max(counts)) | {"score": ROUTED}
    each = [alarms(unlike[taken == number], unknown["threshold"]) for number in range(len(made))]
    shares = [
        f"{route.name} {100 * one['alarms']['value']:.1f} %"
        for route, one in zip(made, each, strict=True)
        if one["alarms"]
    ]
    say(
        f"unknown: less like {_counted(counts)} training pictures than 95 % of validation; "
        f"{how_well_known(unknown)} (of those that take the route {', '.join(shares)})"
    )
    return Told(told, unknown, tuple(one | two for one, two in zip(about, each, strict=True)), ())


def _neighbours(pictures: int) -> int:
    """Which of the nearest is compared with: one that a training picture has among the others, too."""
    return max(1, min(NEIGHBOURS, pictures - 1))


def spread(reference: Reference, embeddings: Floats) -> float:
    """How far training pictures lie from each other: the 95 % quantile of the scores that they have among the others,
    which are its neighbours only; above 0. embeddings: (N, D), what the reference was made of.
    """
    scores = reference.scorer(_neighbours(len(embeddings)) + 1)(embeddings)  # the nearest one is the picture itself
    return max(float(np.quantile(scores, KEPT)), _SMALLEST)


def alarms(scores: Floats, limit: float) -> dict[str, Any]:
    """What a card says of the validation pictures (n,) of one route; the share is None of none."""
    if not len(scores):
        return {"validation": 0, "alarms": None}
    share = wilson(int((scores > limit).sum()), len(scores))
    return {"validation": len(scores), "alarms": {"value": share.value, "low": share.low, "high": share.high}}


def _references(
    run: Run, samples: SampleSet, pixels: Pixels, draft: Path, plan: Plan, threads: int
) -> list[tuple[Reference, float]]:
    """Of each route, and its unit. Those with embeddings as wide have the same pictures, which are decoded once."""
    backends = [open_route(draft, route, threads) for route in plan.routes]
    widths = [answers(backend, pixels[:1], ("embedding",))[0].shape[1] for backend in backends]
    found: dict[int, tuple[Reference, float]] = {}
    for width in sorted(set(widths)):
        chosen = compared(samples, width, run.card.seed)
        asked = [number for number, own in enumerate(widths) if own == width]
        parts: dict[int, list[Floats]] = {number: [] for number in asked}
        for some in batched(squares(run, samples, chosen, threads), _AT_ONCE):
            stack = np.stack(some)
            for number in asked:
                parts[number] += answers(backends[number], stack, ("embedding",))
        for number in asked:
            embeddings = np.concatenate(parts.pop(number))
            reference = reference_of(samples, chosen, embeddings)
            found[number] = reference, spread(reference, embeddings)
    return [found[number] for number in range(len(backends))]


def _counted(pictures: Sequence[int]) -> str:
    least, most = min(pictures), max(pictures)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"
