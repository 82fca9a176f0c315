"""``resight adapt``: a form of a Run that computes as much as a picture needs. PyTorch only to learn policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.commands.own_data import is_own, learned, load_own, match_classes
from resight.commands.predict import resolve_run
from resight.errors import DataError, Interrupted, UsageError
from resight.images import printable
from resight.inference.backend import BACKENDS, check_backend, thread_count
from resight.inference.tiled import only_tiles, only_whole
from resight.runs import Run
from resight.samples import SampleSet, load

if TYPE_CHECKING:
    from resight.adapting.cascades import Adapted
    from resight.adapting.patches.making import Adapted as AdaptedTiles
    from resight.recipes import TrainConfig

KINDS = ("cascade", "resolution", "blocks", "patches")
LEARNED = ("blocks", "patches")


def adapt(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    by: str = "cascade",
    with_: Run | str | Path | Sequence[Run | str | Path] = (),
    artifact: str | None = None,
    sizes: Sequence[int] | None = None,
    epochs: float | None = None,
    penalty: float | None = None,
    seed: int | None = None,
    max_drop: float | None = None,
    name: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Adapted | AdaptedTiles:
    """Make ``artifacts/NAME`` of a Run: several graphs, and a rule which of them answers for a picture. It is the
    quickest that loses at most ``max_drop`` points of accuracy on validation and is faster as measured here.

    data: labelled pictures with a validation part and the Run's classes; default: the Run's own. Validation decides,
    the test part is answered once, at the end. by: ``cascade``: each Run of ``with_`` is tried as the first network,
    and the whole one is asked only where that is unsure; ``resolution``: the same network at smaller ``sizes`` first
    (pixels; default: about a half, five eighths and three quarters). A Run in ``with_`` may be followed by ``:NAME``,
    which asks its artefact of this name, such as ``small:openvino-int8``; artifact: the same for the whole network.
    What is lost is counted against the Run's own graph in fp32 also then. ``blocks``: a policy decides for each picture
    which residual blocks it needs, also with ``artifact``, one of int8: sub-networks are then quantized as it was;
    ``patches``, of a Run that cuts pictures into tiles: from the whole picture at low resolution it is decided which
    tiles are looked at. A policy is learned by reinforcement in ``epochs`` passes over the training pictures (default
    10, of patches 30), where a wrong answer costs ``penalty`` (default 5, of patches 0.5) and a right one earns the
    more the less time it took; begun and interrupted, the same call goes on. seed: of this training; default: the
    Run's. name: default: what ``by`` says. backend: what computes the Runs' own graphs; artefacts have their own;
    default: onnxruntime.

    Raises AdaptationError where nothing is both faster and within the budget: an earlier artefact of the name stays.
    UsageError, DataError, RunError and MissingExtra for what cannot be used; RunLocked, StorageError.
    """
    if by not in KINDS:
        raise UsageError(f"there is no way {printable(by)!r} to adapt; expected one of {', '.join(KINDS)}")
    others = [with_] if isinstance(with_, (Run, str, Path)) else list(with_)
    _check_asked(by, others, artifact, sizes, {"--epochs": epochs, "--penalty": penalty, "--seed": seed})
    need("adapting", "int8", "onnx")
    need("the curve of accuracy and time", "report", "matplotlib")
    chosen = "onnxruntime" if backend is None else backend
    if chosen not in BACKENDS:
        raise UsageError(f"there is no backend {printable(chosen)!r}; expected one of {', '.join(BACKENDS)}")
    check_backend(chosen)
    from resight.adapting.cascades import cascade, sizes_of, small_of
    from resight.adapting.graphs import graph_of, renamed
    from resight.adapting.workshop import MAX_DROP

    opened, first = resolve_run(run), [_with_artifact(other) for other in others]
    runs = [other for other, _ in first]
    if by == "patches":
        only_tiles(opened, "--by patches")
    else:
        for each in (opened, *runs):
            only_whole(each, f"resight adapt --by {by}")
    opened.verify()
    samples = _samples(opened, data)
    _say_learned([opened, *runs], samples, say)
    arguments: dict[str, Any] = {"max_drop": MAX_DROP if max_drop is None else max_drop, "backend": chosen}
    arguments |= {"name": name or by, "threads": thread_count(threads), "say": say}
    own = [artifact, *(name for other, name in first if other.path.resolve() == opened.path.resolve())]
    if arguments["name"] in own:
        raise UsageError(
            f"the artefact {arguments['name']} cannot be replaced by one that is made of it", hint="give another --name"
        )
    if by in LEARNED:
        try:
            if by == "patches":
                return _patches(opened, samples, data, epochs, penalty, seed, arguments)
            return _blocks(opened, samples, data, epochs, penalty, seed, arguments | {"artifact": artifact})
        except Interrupted as error:  # the loop's own hint is for a training that is a Run
            hint = "the same command goes on from there"
            raise Interrupted(error.message, signal_number=error.exit_code - 128, hint=hint) from error
    last = None if artifact is None else graph_of(opened, artifact, chosen)
    side = opened.card.geometry.size
    whole = f"{side}px" if by == "resolution" else opened.card.architecture.name
    if by == "resolution":
        graph, mark = last or graph_of(opened, None, chosen), "" if last is None else f"-{last.precision}"
        last = None if last is None else replace(last, name=f"{whole}{mark}")
        smalls = [replace(graph.smaller(side, size), name=f"{size}px{mark}") for size in sizes_of(opened, sizes)]
    else:
        found = [small_of(opened, other, name, chosen) for other, name in first]
        smalls = renamed(found, [whole] if last is None else [whole, last.name])
    return cascade(opened, samples, smalls, whole=whole, last=last, rule=by, **arguments)


def _with_artifact(source: Run | str | Path) -> tuple[Run, str | None]:
    """A Run, and of ``RUN:NAME`` the name of an artefact; a path that is there is never taken apart."""
    text = "" if isinstance(source, Run) else str(source)
    if ":" not in text or Path(text).exists():
        return resolve_run(source), None
    path, _, name = text.rpartition(":")
    return resolve_run(path), name


def _blocks(
    run: Run,
    samples: SampleSet,
    data: str | Path | None,
    epochs: float | None,
    penalty: float | None,
    seed: int | None,
    arguments: dict[str, Any],
) -> Adapted:
    """Raises UsageError for an imported Run, whose training is not known."""
    need("a policy over blocks", "train", "torch", "accelerate", "pydantic")
    from resight.adapting.learning import EPOCHS, batch_for
    from resight.adapting.policies import blocks
    from resight.adapting.reinforce import PolicySettings
    from resight.training.progress import reporter

    settings = PolicySettings() if penalty is None else PolicySettings(penalty=penalty)
    batch = batch_for(int(samples.counts()["train"].sum()))
    config = _policy_config(run, data, EPOCHS if epochs is None else epochs, batch, seed, settings.joint)
    return blocks(run, samples, config, settings=settings, report=reporter(True), **arguments)


def _patches(
    run: Run,
    samples: SampleSet,
    data: str | Path | None,
    epochs: float | None,
    penalty: float | None,
    seed: int | None,
    arguments: dict[str, Any],
) -> AdaptedTiles:
    """Raises UsageError for an imported Run, whose training is not known."""
    need("a policy over tiles", "train", "torch", "accelerate", "pydantic")
    from resight.adapting.patches.learning import BATCH, EPOCHS, look_config
    from resight.adapting.patches.making import patches
    from resight.adapting.patches.policy import LookSettings
    from resight.training.progress import reporter

    settings = LookSettings() if penalty is None else LookSettings(penalty=penalty)
    batch = min(BATCH, int(samples.counts()["train"].sum()))
    config = _policy_config(run, data, EPOCHS if epochs is None else epochs, batch, seed, 1.0)
    return patches(run, samples, look_config(config), settings=settings, report=reporter(True), **arguments)


def _policy_config(
    run: Run, data: str | Path | None, epochs: float, batch: int, seed: int | None, joint: float
) -> TrainConfig:
    """How a policy is trained, from how the Run was. Raises what `_trained_with` raises."""
    from resight.adapting.learning import policy_config

    return policy_config(
        run,
        _trained_with(run, data),
        epochs=epochs,
        batch=batch,
        seed=run.card.seed if seed is None else seed,
        joint=joint,
    )


def _trained_with(run: Run, data: str | Path | None) -> TrainConfig:
    """The configuration of a Run's training, with the path of other data. Raises UsageError for an imported Run."""
    from resight.recipes import TrainConfig
    from resight.runs import CONFIG
    from resight.training.prepare import with_path

    if not run.records(CONFIG):
        raise UsageError(
            f"{run.path} was not trained here, so how its pictures were varied is not known",
            hint="train it further first: resight train DATA --from RUN",
        )
    config = TrainConfig.from_json(run.read(CONFIG), str(run.path / CONFIG))
    if data is not None:
        with_path(config, data)
    return config


def _check_asked(
    by: str, others: Sequence[Any], artifact: str | None, sizes: Sequence[int] | None, learning: dict[str, Any]
) -> None:
    if by == "cascade" and not others:
        raise UsageError(
            "a cascade needs a small Run to ask first", hint="resight adapt RUN DATA --by cascade --with SMALL"
        )
    if by != "cascade" and others:
        raise UsageError("--with has an effect only with --by cascade")
    if by == "patches" and artifact is not None:
        raise UsageError("--artifact has no effect with --by patches: its policy is over the Run's own graph")
    if by != "resolution" and sizes is not None:
        raise UsageError("--size has an effect only with --by resolution")
    if by not in LEARNED and (given := [option for option, value in learning.items() if value is not None]):
        raise UsageError(f"{given[0]} has an effect only with --by blocks or patches")


def _samples(run: Run, data: str | Path | None) -> SampleSet:
    if data is None or is_own(run, data):  # in the Run's parts: others would mix what it learned from with the rest
        return load_own(run)
    samples = load(data, test_fraction=0)
    match_classes(samples.classes, run.classes)
    if samples.classes != run.classes:
        raise DataError(f"{data} must have all classes of {run.path}, in the same order")
    return samples


def _say_learned(runs: Sequence[Run], samples: SampleSet, say: Callable[[str], None]) -> None:
    """A network looks better than it is on what it learned from, and the threshold would follow."""
    indices = [i for i, sample in enumerate(samples.samples) if sample.split != "train"]
    for run in runs:
        for line in learned(run, samples, indices):
            say(f"note: {line}")
