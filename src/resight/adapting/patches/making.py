"""``--by patches``: the policy is learned, its operating point chosen on validation, the artefact made and measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from resight.adapting.figure import save_tile_curves
from resight.adapting.learning import training_folder
from resight.adapting.patches.curve import (
    Point,
    answered,
    curve,
    gain,
    in_order,
    mean_curve,
    operating_point,
    plain_points,
)
from resight.adapting.patches.facts import Facts, drawn
from resight.adapting.patches.learning import (
    both_facts,
    forget_facts,
    learn_to_look,
    new_policy,
)
from resight.adapting.patches.policy import LookSettings, Scoring, TileCosts, TilePolicy, scores_of
from resight.adapting.patches.table import to_text, told
from resight.adapting.patches.timing import PICTURES, TilePace, measure_costs, tile_pace
from resight.adapting.tried import refused_because
from resight.adapting.workshop import MAX_DROP, check_budget, check_parts, environment, written
from resight.errors import ParityError
from resight.evaluation import Estimate, compare, compare_answers, evaluate, fit_temperature, softmax
from resight.exporting.int8.pictures import positions
from resight.exporting.onnx import export_onnx
from resight.images import Geometry, printable, tile_boxes
from resight.inference import Predictor
from resight.inference.backend import PATCHES, Floats, Pixels
from resight.inference.patches import PLAN, Looking, Patches
from resight.recipes import TrainConfig
from resight.runs import ONNX, Artifact, ArtifactCard, Run, drafted, finished, publish
from resight.runs.storage import storage_errors
from resight.samples import SampleSet
from resight.training.objective import Normalize

DRAWINGS = 20
"""How often the random rule is drawn, for its mean."""
_APART = 1e-4  # in probability: more is no rounding
Curves = dict[str, tuple[Point, ...]]


@dataclass(frozen=True)
class Adapted:
    """The artefact, and the accuracy of each rule at each share of tiles on validation."""

    artifact: Artifact
    curves: Curves

    def to_dict(self) -> dict[str, Any]:
        """Plain values: where it lies, and its card, which holds the curves."""
        return {"path": str(self.artifact.path)} | asdict(self.artifact.card)

    def told(self) -> str:
        """What was made, what it costs on test, and how to use it."""
        return told(self.artifact)


def patches(
    run: Run,
    samples: SampleSet,
    config: TrainConfig,
    *,
    name: str,
    settings: LookSettings,
    report: Any,
    max_drop: float = MAX_DROP,
    backend: str = "onnxruntime",
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    timing: Callable[..., TilePace] = tile_pace,
) -> Adapted:
    """Learns a policy with ``config``, or goes on with one that was begun, and makes the artefact ``name``: the Run's
    own network on as few tiles as lose at most ``max_drop`` points on validation. These are the
    tiles with most detail, unless the policy's are shown to be better ones: the simple rule needs no second graph.

    Raises AdaptationError where nothing is both faster and within the budget, ParityError where the graphs choose or
    answer otherwise than PyTorch; Interrupted after a signal, the state saved; what `drafted`, `publish` and reading
    pictures raise.
    """
    check_budget(max_drop)
    check_parts(run, samples)
    with ExitStack() as held:
        draft = held.enter_context(drafted(run, name))
        folder = Path(held.enter_context(TemporaryDirectory()))
        whole = Predictor(run, backend=backend, threads=threads)
        parts = both_facts(run, whole, samples, settings, name, say)
        val = parts[1]
        pictures = some_pictures(run, samples)

        def costs() -> TileCosts:
            policy = new_policy(run, settings, config.seed)
            normalize = Normalize(run.card.mean, run.card.std)
            untrained = _opened(run, folder, policy, normalize, settings, backend, threads)
            assert whole.tiled is not None
            return measure_costs(run.card.geometry, whole.tiled, untrained, pictures)

        conditions = {"backend": backend, "threads": threads}
        learned = learn_to_look(run, samples, parts, config, settings, name, costs, report, conditions)
        say("choosing how many tiles to look at, on validation …")
        plan = _plan(run, folder, learned.policy, learned.normalize, settings, backend)
        plans = {"detail": replace(plan, policy=None), "policy": plan}
        scores = {rule: _scores(_open(folder, one, threads), val) for rule, one in plans.items()}
        _check_scores(scores["policy"], scores_of(learned.policy, learned.normalize, val))
        at_random = mean_curve([curve(val, drawn(val, seed)) for seed in range(DRAWINGS)])
        curves = {rule: curve(val, own) for rule, own in scores.items()} | {"random": at_random}
        accuracy = float((val.whole().argmax(axis=1) == val.labels).mean())
        points = {rule: operating_point(own, accuracy, max_drop) for rule, own in curves.items()}
        gained = gain(val, scores, points["policy"], run.classes)
        say(to_text(curves, points, gained, len(val)))
        for rule, point in in_order(points, gained):
            logits = answered(val, scores[rule], point.share).astype(np.float32)
            temperature = fit_temperature(logits, val.labels)
            card = _card(run, name, replace(plans[rule], share=point.share, temperature=temperature), folder, draft)
            trial = Predictor(run, artifact=finished(run, draft, card), threads=threads)
            assert whole.tiled is not None
            assert trial.tiled is not None
            choosing = partial(_choose, run.card.geometry, Patches(draft / PLAN, threads))
            pace = timing(whole.tiled, trial.tiled, choosing, pictures)
            if pace.faster:
                break
        else:
            why = "none is faster than looking at all" if any(points.values()) else "no share is within the budget"
            kept = printable(str(training_folder(run, name).parent))
            say(f"what was learned stays in {kept}, for another --max-drop")
            raise refused_because(run, max_drop, f"of tiles, {why}")
        made = _finish(run, samples, card, (whole, trial), (val.whole().astype(np.float32), logits), say)
        about = card.adaptive | {
            "rule": "patches",
            "by": rule,
            "gained": None if gained is None else asdict(gained),
            "max_drop": max_drop,
            "share": point.share,
            "settings": asdict(settings),
            "costs": asdict(learned.costs),
            "history": learned.history,
            "curves": {rule: plain_points(points) for rule, points in curves.items()},
            "whole": {"accuracy": accuracy},
            "lost": made["lost"],
            "looked": made["looked"],
            "pace": pace.to_dict(),
        }
        save_tile_curves(draft / "curve.png", curves, accuracy, rule, point)
        say(f"writing the artefact {name} …")
        card = replace(card, metrics=made["metrics"], parity=made["parity"], adaptive=about)
        artifact = publish(run, draft, card)
        learned.remove()
        forget_facts(run, name)
        return Adapted(artifact, curves)


def some_pictures(run: Run, samples: SampleSet, most: int = PICTURES) -> list[Pixels]:
    """Whole validation pictures to measure time with, evenly spread."""
    indices = positions(samples, "val")
    chosen = np.unique(np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int))
    card = run.card
    return [samples.read(samples.samples[indices[k]], card.channels, geometry=card.geometry) for k in chosen]


def _plan(
    run: Run, folder: Path, policy: TilePolicy, normalize: Normalize, settings: LookSettings, backend: str
) -> Looking:
    """Writes both graphs into ``folder``; the share and temperature are still to be chosen."""
    path = folder / "exported.onnx"
    export_onnx(Scoring(policy, normalize), settings.side, path)  # type: ignore[arg-type]
    data = path.read_bytes()
    path.unlink()
    return Looking(
        settings.tile,
        settings.side,
        1.0,
        written(folder, "policy", data, backend),
        written(folder, "network", run.read(ONNX), backend),
    )


def _opened(
    run: Run,
    folder: Path,
    policy: TilePolicy,
    normalize: Normalize,
    settings: LookSettings,
    backend: str,
    threads: int,
) -> Patches:
    return _open(folder, _plan(run, folder, policy, normalize, settings, backend), threads)


def _open(folder: Path, plan: Looking, threads: int) -> Patches:
    with storage_errors(folder):
        (folder / PLAN).write_bytes(plan.to_json())
    return Patches(folder / PLAN, threads)


def _choose(geometry: Geometry, patches: Patches, picture: Pixels) -> object:
    return patches.chosen(geometry, picture, tile_boxes(geometry, *picture.shape[:2]))


def _scores(patches: Patches, facts: Facts) -> list[Floats]:
    return [patches.scores_of_windows([windows]) for windows in facts.windows]


def _check_scores(found: Sequence[Floats], expected: Sequence[Floats]) -> None:
    apart = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    scale = max(1.0, max(float(np.abs(one).max()) for one in expected))
    if apart > 1e-3 * scale:
        raise ParityError(
            f"the policy's graph scores tiles otherwise than in PyTorch: by up to {apart:.2g}",
            hint="this is a defect of the export: please report it with the Run's environment",
        )


def _card(run: Run, name: str, plan: Looking, folder: Path, draft: Path) -> ArtifactCard:
    """Puts the plan and its graphs, from ``folder``, into the draft, which has nothing else."""
    with storage_errors(draft):
        for path in draft.iterdir():
            path.unlink()
        for graph in (plan.policy, plan.network):
            if graph is not None:
                shutil.copyfile(folder / graph.graph, draft / graph.graph)
        (draft / PLAN).write_bytes(plan.to_json())
    return replace(
        ArtifactCard.of(run, name, target="adaptive", precision="fp32", backend=PATCHES, graph=PLAN),
        temperature=plan.temperature,
        unknown={},
        adaptive={"graphs": plan.graphs},
        environment=environment(("torch", "onnx", plan.network.backend)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=("class activation maps and 'unknown' are of all tiles: ask the Run itself for them",),
    )


def _finish(
    run: Run,
    samples: SampleSet,
    card: ArtifactCard,
    sides: tuple[Predictor, Predictor],
    known: tuple[Floats, Floats],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Answers validation and then, once, test as people will ask. known: the logits (N, K) of validation from all
    tiles, and those from which the operating point was chosen. Raises ParityError where the latter are not what is
    answered now.
    """
    metrics: dict[str, Any] = {}
    lost: dict[str, Any] = {}
    looked: dict[str, float] = {}
    parity: dict[str, Any] = {}
    for part in ("val", *(["test"] if positions(samples, "test") else [])):
        say(f"answering the {part} part …")
        own, labels = sides[1].answers_of(samples, part)
        whole = known[0] if part == "val" else sides[0].answers_of(samples, part)[0].logits
        groups = [samples.samples[i].group for i in own.indices]
        metrics[part] = evaluate(own.logits, labels, run.classes, temperature=card.temperature, groups=groups).to_dict()
        before, after = whole.argmax(axis=1), own.logits.argmax(axis=1)
        drop: Estimate = compare_answers(before, after, labels, run.classes).overall.difference
        lost[part] = asdict(drop)
        assert own.looked is not None
        looked[part] = float(own.looked[:, 0].sum() / own.looked[:, 1].sum())
        if part == "val":
            near = compare(softmax(whole / run.card.temperature), own.probabilities)
            parity = {
                "pictures": near.n,
                "top1_agreement": near.top1_agreement,
                "max_abs": near.max_abs,
                "mean_abs": near.mean_abs,
                "lost": lost[part],
            }
            apart = float(np.abs(softmax(known[1] / card.temperature) - own.probabilities).max())
            if apart > _APART:
                raise ParityError(
                    f"the chosen tiles are answered otherwise than when they were chosen: by up to {apart:.2g}",
                    hint="this is a defect: please report it with the Run's environment",
                )
    return {"metrics": metrics, "lost": lost, "looked": looked, "parity": parity}
