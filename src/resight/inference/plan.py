"""``adaptive.json``: the graphs that answer for one Run, and the rule that sends each picture to one of them.

A route is a graph of the contract (`resight.inference.backend`) beside the file. Two rules:

- **cascade**: the routes in order, each only for pictures of which the one before was not sure: its calibrated
  confidence, the largest of softmax(logits / its temperature), was below its threshold;
- **policy**: a small graph of the same contract whose classes are the routes looks at each picture first, and the route
  with the largest logit answers (Wu et al. 2018: BlockDrop).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import RunError
from resight.evaluation import softmax
from resight.inference.backend import ADAPTIVE, BACKENDS, Backend, Floats, open_backend, read_graph
from resight.runs import Artifact
from resight.runs.plain_json import json_bytes, read_json

PLAN = "adaptive.json"
SCHEMA, MOST = 1, 8
AGAIN = "make it again: resight adapt RUN DATA"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Compared:
    """How a route tells pictures that are unlike the training data (`resight.inference.unknown`): the distance of its
    embedding to the ``k``-th nearest training picture, divided by ``unit``, above 0. sha256: what the file of these
    training pictures, as this route sees them, must hash to.
    """

    sha256: str
    k: int
    unit: float


@dataclass(frozen=True)
class Route:
    """A graph that answers. graph: a file beside the plan. sha256: what it must hash to; weights: what its second file
    must, for an ``.xml``; head: what the file of its last layer must, by which its features are maps of classes; None
    where there are no such maps. temperature: its logits are divided by it before they are compared or answered.
    reference: how it tells unknown pictures; None where the plan does not.
    """

    name: str
    backend: str
    graph: str
    sha256: str
    weights: str | None = None
    temperature: float = 1.0
    head: str | None = None
    reference: Compared | None = None

    @property
    def head_file(self) -> str:
        """Beside the graph."""
        return f"{self.name}-head.safetensors"

    @property
    def reference_file(self) -> str:
        """Beside the graph."""
        return f"{self.name}-reference.safetensors"

    def to_card(self) -> dict[str, Any]:
        """What the card of the artefact says of it."""
        return {"name": self.name, "backend": self.backend, "maps": self.head is not None}


@dataclass(frozen=True)
class Plan:
    """routes: two or more, the last is the whole network. thresholds: of a cascade, one for each route but the last, in
    0 … 1. gate: the graph of a policy; exactly one of both is there. temperature: of what is answered at the end:
    probabilities are softmax(logits / temperature), where the logits are the route's own divided by its temperature.
    """

    routes: tuple[Route, ...]
    thresholds: tuple[float, ...] = ()
    gate: Route | None = None
    temperature: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(route.name for route in self.routes)

    @property
    def tells(self) -> bool:
        """Whether it tells unknown pictures. All routes do, or none."""
        return self.routes[-1].reference is not None

    def to_json(self) -> bytes:
        return json_bytes({"schema": SCHEMA} | asdict(self))


def confidence(logits: Floats, temperature: float) -> NDArray[np.float64]:
    """Logits (N, K) → the probability of the best class (N,), calibrated by ``temperature``."""
    found: NDArray[np.float64] = softmax(logits.astype(np.float64) / temperature).max(axis=1)
    return found


def check_routes(artifact: Artifact) -> None:
    """Raises RunError where the card of an artefact names other routes than its plan, or some without one."""
    card = artifact.card
    said = [(route["name"], route["backend"]) for route in card.adaptive.get("routes", ())]
    plan = read_plan(artifact.graph, artifact.sha256) if card.backend == ADAPTIVE else None
    if said != [(route.name, route.backend) for route in (plan.routes if plan else ())]:
        raise RunError(f"the card and the plan of {artifact.path} name different routes", hint=AGAIN)
    if plan is not None and plan.tells != bool(card.unknown):
        told = "its plan tells it, and its card does not" if plan.tells else "its card tells it, and its plan does not"
        raise RunError(f"{artifact.path} cannot be asked what is unknown: {told}", hint=AGAIN)


def read_plan(path: Path, sha256: str | None) -> Plan:
    """Raises RunError for a file that was changed, and for anything that is not a plan of this schema."""
    data = read_graph(path, sha256)
    try:
        plain = read_json(data)
        if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        gate = plain.pop("gate")
        routes = tuple(read_route(one) for one in plain.pop("routes"))
        thresholds = tuple(plain.pop("thresholds"))
        plan = Plan(routes, thresholds, None if gate is None else read_route(gate), plain.pop("temperature"))
        if plain:
            raise ValueError(f"unknown fields: {', '.join(sorted(plain))}")
        _check(plan)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path} is no plan of routes: {error}", hint=AGAIN) from error
    return plan


def open_route(folder: Path, route: Route, threads: int | None, callers: int = 1) -> Backend:
    """The graph of a route in ``folder``. Raises what `open_backend` raises."""
    place = folder / route.graph
    return open_backend(route.backend, place, threads, sha256=route.sha256, weights=route.weights, callers=callers)


def check_name(name: str) -> None:
    """Raises ValueError for what cannot name a route, and so its files."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a route cannot be called {name!r}: expected up to 64 of a-z, 0-9, '_', '.', '-'")


def read_route(plain: Mapping[str, Any]) -> Route:
    """Raises ValueError, TypeError or AttributeError for what is no route."""
    told = plain.get("reference")
    route = Route(**{**plain, "reference": None if told is None else Compared(**told)})
    check_name(route.name)
    if not all(_SHA256.fullmatch(one) for one in (route.sha256, route.weights, route.head) if one is not None):
        raise ValueError("a route has an impossible SHA-256")
    if Path(route.graph).name != route.graph or "\\" in route.graph or "\0" in route.graph:
        raise ValueError("a graph lies elsewhere")
    kind = ".onnx" if route.weights is None else ".xml"
    if route.backend not in (BACKENDS if route.weights is None else ("openvino",)) or not route.graph.endswith(kind):
        raise ValueError(f"nothing here answers with the route {route.name}")
    if not is_positive(route.temperature):
        raise ValueError(f"the route {route.name} has the temperature {route.temperature!r}")
    if route.reference is not None:
        _check_compared(route.name, route.reference)
    return route


def _check_compared(name: str, told: Compared) -> None:
    if not _SHA256.fullmatch(told.sha256):
        raise ValueError("a reference has an impossible SHA-256")
    if type(told.k) is not int or told.k < 1 or not is_positive(told.unit):
        raise ValueError(f"the route {name} compares with neighbour {told.k!r}, in units of {told.unit!r}")


def _check(plan: Plan) -> None:
    if not 2 <= len(plan.routes) <= MOST or len(set(plan.names)) < len(plan.routes):
        raise ValueError(f"expected 2 to {MOST} routes of different names")
    if plan.gate is not None and (plan.gate.reference or plan.gate.head):
        raise ValueError("the gate does not answer, and yet it has a last layer or a reference")
    if len({route.reference is None for route in plan.routes}) > 1:
        raise ValueError("some of its routes tell unknown pictures, and others do not")
    if len(plan.thresholds) != (len(plan.routes) - 1 if plan.gate is None else 0):
        raise ValueError("expected a threshold for each route but the last, or a gate")
    if not all(isinstance(one, int | float) and 0 <= one <= 1 for one in plan.thresholds):
        raise ValueError("a threshold is not in 0 … 1")
    if not is_positive(plan.temperature):
        raise ValueError(f"its temperature is {plan.temperature!r}")


def is_positive(value: Any) -> bool:
    """Whether it is a number above 0, and finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
