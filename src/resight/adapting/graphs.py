"""What may become a route: a Run's own graph, or an artefact of it, as bytes; in ONNX or in OpenVINO's own format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from resight.adapting.smaller import smaller, smaller_ir
from resight.errors import RunError, UsageError
from resight.explaining import read_weights
from resight.exporting.int8.targets import TARGETS
from resight.images import printable
from resight.inference.backend import ADAPTIVE, BACKENDS, Backend, check_backend, open_backend, read_graph
from resight.inference.heads import Head
from resight.inference.plan import PLAN, Plan, Route, check_name
from resight.runs import ONNX, Run, artifact_names, open_artifact
from resight.runs.storage import storage_errors


@dataclass(frozen=True)
class Graph:
    """A graph of the contract (`resight.inference.backend`). name: of its route. backend: what computes it. data: the
    ONNX file, or with ``weights``, the bytes of the ``.bin`` beside it, an ``.xml``. artifact: which of its Run's it
    is; None for the Run's own. head: its last layer; None where its features are not what the answer is the sum of.
    """

    name: str
    backend: str
    data: bytes
    weights: bytes | None = None
    precision: str = "fp32"
    artifact: str | None = None
    head: Head | None = None

    def put(self, folder: Path, temperature: float = 1.0) -> Route:
        """The route, whose files are written into ``folder``. Raises StorageError, and RunError for a name, such as a
        stranger's Run may have, that is none of a file there.
        """
        try:
            check_name(self.name)
        except ValueError as error:
            raise RunError(str(error), hint="the names are those of the Runs' architectures and artefacts") from error
        path = folder / f"{self.name}.{'onnx' if self.weights is None else 'xml'}"
        with storage_errors(path):
            path.write_bytes(self.data)
            if self.weights is not None:
                path.with_suffix(".bin").write_bytes(self.weights)
        last = None if self.head is None else self.head.to_bytes()
        weights, head = (None if data is None else hashlib.sha256(data).hexdigest() for data in (self.weights, last))
        sha256 = hashlib.sha256(self.data).hexdigest()
        route = Route(self.name, self.backend, path.name, sha256, weights, temperature, head)
        if last is not None:
            with storage_errors(path):
                (folder / route.head_file).write_bytes(last)
        return route

    def smaller(self, side: int, size: int) -> Graph:
        """The same network, asked for pictures of ``side`` px at ``size`` px. Raises RunError where it cannot be."""
        if self.weights is None:
            return replace(self, data=smaller(self.data, side, size))
        data, weights = smaller_ir(self.data, self.weights, side, size)
        return replace(self, data=data, weights=weights)

    @property
    def alone(self) -> str:
        """What a user takes who wants nothing but this graph."""
        return "that Run" if self.artifact is None else f"the artefact {self.artifact} of that Run"


def opened(folder: Path, plan: Plan, threads: int) -> Backend:
    """The plan as a backend, from ``folder``, where its graphs are. Raises StorageError, and what backends raise."""
    data = plan.to_json()
    with storage_errors(folder):
        (folder / PLAN).write_bytes(data)
    return open_backend(ADAPTIVE, folder / PLAN, threads, sha256=hashlib.sha256(data).hexdigest())


def graph_of(run: Run, artifact: str | None, backend: str) -> Graph:
    """The Run's own graph, for ``backend``, or the graph of an artefact of it, which has a backend of its own. The
    bytes are those that the cards name. Its route is called as the architecture, with the precision of an artefact.

    Raises UsageError for an artefact that the Run has not, and for one of several graphs or that nothing here answers
    with; RunError for files that were changed; MissingExtra where its backend is not installed.
    """
    name = run.card.architecture.name
    head = Head.of(read_weights(run), len(run.classes))
    if artifact is None:
        return Graph(name, backend, run.read(ONNX), head=head)
    if artifact not in artifact_names(run):
        there = ", ".join(artifact_names(run)) or "none"
        to = next((to for to, target in TARGETS.items() if target.artifact == artifact), None)
        how = f"--to {to} --int8" if to else "--to openvino --int8, which makes openvino-int8"
        raise UsageError(
            f"{run.path} has no artefact {printable(artifact)!r}; it has: {there}",
            hint=f"make it: resight export {printable(str(run.path))} {how}",
        )
    found = open_artifact(run, artifact)
    own = found.card.backend
    if own not in BACKENDS:
        what = "answers with several graphs" if found.card.routes else "is for other programs: nothing here answers it"
        raise UsageError(f"{found.path} cannot be a route: it {what}", hint="give one of resight export --int8")
    check_backend(own)
    weights = None if found.weights is None else read_graph(found.graph.with_suffix(".bin"), found.weights)
    data = read_graph(found.graph, found.sha256)
    precision = found.card.precision
    exact = head if precision == "fp32" else None  # int8 rounds the last layer, too
    return Graph(f"{name}-{precision}", own, data, weights, precision, artifact, exact)


def renamed(graphs: list[Graph], taken: list[str]) -> list[Graph]:
    """Under names that differ from each other's and from those that are ``taken``."""
    found: list[Graph] = []
    for number, graph in enumerate(graphs, start=1):
        name = f"{graph.name}-first" if graph.name in taken else graph.name
        if name in (other.name for other in found):
            name = f"{name}-{number}"
        found.append(replace(graph, name=name))
    return found
