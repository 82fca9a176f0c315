"""What all adaptive artefacts are made of: validation pictures, routes that can be asked, and how they are finished."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.adapting.graphs import Graph, opened
from resight.adapting.table import Row
from resight.adapting.timing import Asking, Pace
from resight.adapting.unknown import tell
from resight.errors import AdaptationError, DataError, ParityError, UsageError
from resight.evaluation import compare, compare_answers, evaluate
from resight.exporting.int8.loss import answers
from resight.exporting.int8.pictures import positions, stored_squares
from resight.inference import ADAPTIVE, UNLIKE, Answers, Predictor, open_backend
from resight.inference.backend import Backend, Floats, Pixels
from resight.inference.plan import PLAN, Plan, Route
from resight.inference.tasks import only_single
from resight.runs import ONNX, Artifact, ArtifactCard, Run, finished, publish
from resight.runs.storage import storage_errors
from resight.samples import SampleSet

MAX_DROP = 0.5
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bench:
    """The whole network on the validation part: squares uint8 (N, S, S, C), labels (N,), its logits (N, K), and the
    session that gave them. backend: what all routes are computed with. folder: where graphs may lie meanwhile.
    """

    run: Run
    samples: SampleSet
    pixels: Pixels
    labels: Ints
    whole: Backend
    logits: Floats
    backend: str
    threads: int
    folder: Path

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(axis=1) == self.labels).mean())

    @property
    def shape(self) -> tuple[int, int, int]:
        size = self.run.card.geometry.size
        return size, size, self.run.card.channels


def bench(run: Run, samples: SampleSet, backend: str, threads: int, folder: Path) -> Bench:
    """Answers validation with the whole network. Raises UsageError for a Run with any number of labels, DataError for
    data without a validation part or with bad pictures.
    """
    indices = check_parts(run, samples)
    pixels = stored_squares(run, samples, indices, folder / "val.npy", threads)
    whole = open_backend(backend, run.file(ONNX), threads, sha256=run.card.files[ONNX])
    (logits,) = answers(whole, pixels, ("logits",))
    labels = samples.targets([samples.samples[i] for i in indices])
    return Bench(run, samples, pixels, labels, whole, logits, backend, threads, folder)


def check_parts(run: Run, samples: SampleSet) -> list[int]:
    """Positions of the validation pictures. Raises as ``bench`` does."""
    only_single(run, "an adaptive network")
    if samples.classes != run.classes:
        raise DataError("the classes of the data are not those of the Run, in the same order")
    indices = positions(samples, "val")
    if not indices:
        raise DataError(
            "there are no validation pictures, so what an adaptive network loses cannot be measured",
            hint="give data that has train and val",
        )
    return indices


def check_budget(max_drop: float) -> None:
    if isinstance(max_drop, bool) or not (isinstance(max_drop, int | float) and 0 <= max_drop <= 100):
        raise UsageError(f"max_drop is {max_drop!r}; expected points of accuracy, 0 to 100")


def written(folder: Path, name: str, data: bytes, backend: str, temperature: float = 1.0) -> Route:
    """A route of a graph's bytes, which are put into ``folder``. Raises StorageError."""
    return Graph(name, backend, data).put(folder, temperature)


def finish(
    bench: Bench,
    draft: Path,
    plan: Plan,
    *,
    name: str,
    about: dict[str, Any],
    pace: Pace,
    timing: Callable[..., Pace],
    rows: Sequence[Row],
    packages: Sequence[str],
    say: Callable[[str], None],
    graphs: Sequence[Graph] | None = None,
    notes: Sequence[str] = (),
) -> Artifact:
    """Evaluates what lies in ``draft`` as people will ask it, on validation and then, once, on test; publishes it.

    about: of the card's ``adaptive``: the rule, the curve. graphs: of the routes, for what the card says of them;
    default: they are fp32, and of no artefact. pace: of the routes alone; where they tell what is unknown, too, it is
    measured again, by ``timing``, with that, beside the whole network as `predict` asks it. notes: more for the card.

    Raises AdaptationError where it then is not faster, ParityError where it answers otherwise than the validation
    pictures did, DataError for training pictures that cannot be read, StorageError.
    """
    run, samples = bench.run, bench.samples
    told = tell(run, samples, bench.pixels, draft, plan, bench.threads, say)
    plan = told.plan
    made = [("fp32", None)] * len(plan.routes) if graphs is None else [(one.precision, one.artifact) for one in graphs]
    lowest = "int8" if any(precision == "int8" for precision, _ in made) else "fp32"
    with storage_errors(draft):
        (draft / PLAN).write_bytes(plan.to_json())
    card = replace(
        ArtifactCard.of(run, name, target="adaptive", precision=lowest, backend=ADAPTIVE, graph=PLAN),
        temperature=plan.temperature,
        unknown=told.unknown,
        adaptive=about | {"routes": [{"name": r.name, "backend": r.backend} for r in plan.routes]},
        environment=environment(packages),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=tuple(told.notes),
    )
    trial = Predictor(run, artifact=finished(run, draft, card), threads=bench.threads)
    base = Predictor(run, backend=bench.backend, threads=bench.threads)
    if plan.tells:
        pace = timing(Asking(base), Asking(trial), bench.pixels, len(plan.routes))
        say(f"with what is unknown: {pace.one[0]:.2f}× as fast one by one, {pace.sixteen[0]:.2f}× by 16")
        if not pace.faster:
            raise AdaptationError(
                f"no adaptive form of {run.path} is faster: what was chosen is not, once each of its routes tells what "
                "is unknown",
                hint="allow more with --max-drop, or use the Run itself; what was there before is kept",
            )
    parts = ["val", *(["test"] if positions(samples, "test") else [])]
    metrics: dict[str, Any] = {}
    lost: dict[str, Any] = {}
    shares: dict[str, list[float]] = {}
    parity: dict[str, Any] = {}
    for part in parts:
        own, labels = trial.answers_of(samples, part)
        other, _ = base.answers_of(samples, part)
        groups = [samples.samples[i].group for i in own.indices]
        metrics[part] = evaluate(own.logits, labels, run.classes, temperature=plan.temperature, groups=groups).to_dict()
        before, after = other.logits.argmax(axis=1), own.logits.argmax(axis=1)
        drop = compare_answers(before, after, labels, run.classes).overall.difference
        lost[part], shares[part] = asdict(drop), _shares(own, len(plan.routes))
        if part == "val":
            near = compare(other.probabilities, own.probabilities)
            parity = {
                "pictures": near.n,
                "top1_agreement": near.top1_agreement,
                "max_abs": near.max_abs,
                "mean_abs": near.mean_abs,
                "lost": lost[part],
            }
            _check_same(bench, draft, plan, own)
    routes = [
        route.to_card()
        | {
            "graph": route.graph,
            "precision": made[number][0],
            "artifact": made[number][1],
            "share": {part: shares[part][number] for part in parts},
            "times": pace.routes[number],
            "unknown": told.routes[number],
        }
        for number, route in enumerate(plan.routes)
    ]
    own_about = about | {
        "routes": routes,
        "lost": lost,
        "pace": pace.to_dict(),
        "candidates": [row.to_dict() for row in rows],
    }
    say(f"writing the artefact {name} …")
    card = replace(card, metrics=metrics, parity=parity, adaptive=own_about, notes=(_worst(pace), *notes, *card.notes))
    return publish(run, draft, card)


def _check_same(bench: Bench, draft: Path, plan: Plan, own: Answers) -> None:
    """The dispatcher of a folder, asked in batches by several threads, against one that is asked in one piece."""
    asked = ("probabilities", "logits", *((UNLIKE,) if plan.tells else ()))
    probabilities, logits, *unlike = answers(opened(draft, plan, bench.threads), bench.pixels, asked)
    apart = float(np.abs(probabilities - own.probabilities).max())
    told = 0.0 if own.unlike is None else float((np.abs(unlike[0] - own.unlike) / np.maximum(own.unlike, 1)).max())
    if apart > 1e-4 or told > 1e-3 or len(logits) != len(own.logits):
        raise ParityError(
            f"the adaptive network answers otherwise in other batches: by up to {apart:.2g} in probability, "
            f"{told:.2g} of how unlike a picture is",
            hint="this is a defect of the export: please report it with the Run's environment",
        )


def _shares(answers: Answers, routes: int) -> list[float]:
    assert answers.route is not None
    return [float((answers.route == number).mean()) for number in range(routes)]


def _worst(pace: Pace) -> str:
    return f"a picture that goes all the way takes {pace.worst:.2f} times as long as with the whole network"


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Versions of these packages, and of what everything needs, for a card."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in ("resight", "numpy", "pillow", *packages)},
    }
