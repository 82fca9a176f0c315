"""``resight advise``: which ResNet for these data, on this machine, in this much time."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.whole_only import refuse_tiles
from resight.errors import UsageError
from resight.images import printable

if TYPE_CHECKING:
    from resight.advising import Advice, Candidate
    from resight.advising.choose import Option
    from resight.advising.facts import DataFacts
    from resight.models import Source

SECONDS = 60.0
"""What measuring may take, about: what is being measured when the time is over is finished, and the network that is
advised is always measured.
"""


def advise(
    data: str | Path,
    *,
    budget: str | float | None = None,
    latency: str | float | None = None,
    size: str | int | None = None,
    weights: str | Path | None = None,
    model: str | None = None,
    image_size: str | int | None = None,
    recipe: str | None = None,
    seconds: float = SECONDS,
    plot: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Advice:
    """Measures this machine, looks at the data, and says which network, size, weights and recipe to train.

    budget: ``"30m"`` or seconds, for the whole training. latency: ``"20ms"`` or seconds, for one picture. size:
    ``"25MB"`` or bytes, of ``model.onnx``. weights: a tag, file or Run to start from, or ``"none"``; otherwise photos
    are also considered with ImageNet weights. model, image_size: only these, several with commas between them. seconds:
    for measuring, about. plot: a PNG or SVG file to write. set: fields of the configuration by dotted names.

    Nothing is fetched. Raises UsageError, also when no candidate fits, with the nearest one; DataError; TrainingError
    when measuring fails.
    """
    need("advice", "train", "torch", "accelerate", "pydantic", "matplotlib", "onnx")
    out = Path(plot) if plot is not None else None
    check_outputs({"--plot": out}, endings={"--plot": (".png", ".svg")})
    if not 0 < seconds < float("inf"):
        raise UsageError(f"seconds is {seconds!r}; expected a number above 0")
    wishes = dict(set or {}) | ({"model.weights": str(weights)} if weights else {})
    found = decide(
        data, wishes, recipe, say, budget=budget, latency=latency, size=size, model=model, image_size=image_size,
        seconds=seconds, download=True,
    )  # fmt: skip
    if out is not None:
        from resight.advising.plot import plot as draw

        draw(found, out)
    return found


def decide(
    data: str | Path,
    wishes: Mapping[str, Any],
    recipe: str | None,
    say: Callable[[str], None],
    *,
    budget: str | float | None = None,
    latency: str | float | None = None,
    size: str | int | None = None,
    model: str | None = None,
    image_size: str | int | None = None,
    seconds: float = SECONDS,
    download: bool,
) -> Advice:
    """The advice for these wishes, by dotted names. download: whether weights that are not on this machine count."""
    from resight.advising import Advice, Limits
    from resight.advising.choose import choose, front, limited, order
    from resight.advising.facts import load, look
    from resight.advising.measure import measure
    from resight.advising.plan import option, plan
    from resight.advising.reasons import USUAL, reasons
    from resight.advising.timing import key_of
    from resight.training import distill, prepare

    limits = Limits(
        None if budget is None else quantity("budget", budget, _TIMES),
        None if latency is None else quantity("latency", latency, _TIMES),
        None if size is None else int(quantity("size", size, _BYTES)),
    )
    wishes = dict(wishes)
    if limits.budget and {"epochs", "total_steps", "budget_seconds"} & set(wishes):
        raise UsageError("the budget says how long to train: epochs, total_steps or budget_seconds contradict it")
    refuse_tiles(wishes, "resight advise")
    weights = wishes.pop("model.weights", None)
    asked = prepare.first_look(wishes if weights in (None, "none") else {**wishes, "model.weights": weights}, recipe)
    limits = replace(limits, memory=int(asked.memory_gb * 2**30) or None)
    path = _local(data)
    samples, listing = load(path, asked)
    say("looking at the data")
    if samples.task == "multi":
        raise UsageError(
            "advice is measured for one class a picture; these pictures have any number of labels",
            hint="name the network: resight train DATA --model resnet18",
        )
    if asked.distill.teacher:
        distill.open_teacher(asked, samples.classes)
    facts, sizes = look(path, samples, listing)
    candidates, source = _candidates(facts, weights, model, image_size, limits.budget, download)
    plans = [plan(c, samples, sizes, facts, wishes, recipe, _known(c, source)) for c in candidates]
    used = Counter(key_of(p.config) for p in plans)
    plans.sort(key=lambda p: (-used[key_of(p.config)], p.macs))  # what most candidates need is measured first
    usual = USUAL if limits.budget is None else None
    found = measure(facts, [p.config for p in plans], seconds, say)
    while True:
        options = order([limited(option(p, facts, found, plans, limits), limits) for p in plans])
        chosen = choose(options, usual)
        if options[chosen].measured:
            break
        say(f"measuring {options[chosen].candidate.model}, which there was no time for")
        config = next(p.config for p in plans if p.candidate == options[chosen].candidate)
        found = measure(facts, [config], seconds / 3, lambda _: None, found)
    stay = [o for o in options if not (o.candidate.download or o.exceeds)]
    offline = options.index(stay[choose(stay, usual)]) if stay and options[chosen].candidate.download else None
    return Advice(
        data=facts,
        limits=limits,
        options=options,
        front=front(options),
        chosen=chosen,
        offline=offline,
        reasons=tuple(reasons(facts, limits, options, chosen, offline)),
        command=_command(str(data), options[chosen], limits.budget, recipe, wishes),
        machine=_machine(plans[0].config),
        measuring=found.seconds,
    )


# ── what comes into question ───────────────────────────────────────────────────────────────────────────────────


def _candidates(
    facts: DataFacts,
    weights: Any,
    model: str | None,
    image_size: str | int | None,
    budget: float | None,
    download: bool,
) -> tuple[list[Candidate], Source | None]:
    """Candidates, and the weights where the user has named a file or Run that they start from."""
    from resight.advising.candidates import TAGS, Candidate, models_for, points, sizes_for
    from resight.models import read_weights, spec_of
    from resight.models.weights import _is_path

    names = tuple(name.strip() for name in model.split(",")) if model else models_for(facts, budget)
    for name in names:
        spec_of(name)
    own, source = None, None
    scratch = weights in (None, "none")
    if not scratch and _is_path(weights):
        source = read_weights(weights, names[0] if model and len(names) == 1 else None)
        names = (_architecture(source, weights),)
        own = source.geometry.size if source.geometry else None
    sides = _sides(image_size) if image_size is not None else sizes_for(facts, own)
    pairs = [(name, side) for name in names for side in sides]
    if source is not None:
        return [Candidate(n, s, str(weights), points(n, s, facts, True)) for n, s in pairs], source
    found = []
    if scratch:
        found = [Candidate(name, side, None, points(name, side, facts, False)) for name, side in pairs]
    if weights is None and facts.small:
        return found, None
    if weights != "none":
        for name, side in pairs:
            tag = _tag(weights, name) if weights else TAGS.get(name)
            if tag and (weights or image_size is not None or side >= 96):
                missing = _missing(name, tag)
                if weights or download or not missing:
                    found.append(Candidate(name, side, f"{name}.{tag}", points(name, side, facts, True), missing))
    if not found:
        raise UsageError(f"no network among {', '.join(names)} has weights '{weights}'", hint="see: resight models")
    return found, None


def _sides(image_size: str | int) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in str(image_size).split(","))
    except ValueError:
        raise UsageError(f"--image-size must be whole numbers, not {image_size!r}", hint="for example 64,128") from None


def _architecture(source: Source, weights: Any) -> str:
    from resight.models import guess

    known = source.architecture or (guess(source.state) or ("", {}))[0]
    if not known:
        raise UsageError(f"of which network {weights} are weights is not known", hint="name it: --model")
    return known


def _tag(weights: str, name: str) -> str | None:
    """The tag of this network that ``weights`` names: ``resnet50.tv_in1k``, or ``tv_in1k`` for each that has it."""
    from resight.models import known_tags
    from resight.models.hub import parse_tag

    if "." in weights:
        named, tag = parse_tag(weights)
        return tag if named == name else None
    return weights if weights in known_tags(name) else None


def _missing(name: str, tag: str) -> int:
    """Bytes that would have to be downloaded, about: 0 where the weights are here already. Asks no server."""
    import torch

    from resight.models import create, parameter_count
    from resight.models.hub import here

    with torch.device("meta"):
        size = 4 * parameter_count(create(name))
    return 0 if here(name, tag) else size


def _known(candidate: Candidate, source: Source | None) -> Source | None:
    """What is known of the candidate's weights without fetching them."""
    from resight.images import Geometry
    from resight.models import Source, parse_tag, resolve
    from resight.models.hub import TORCHVISION_TAGS

    if source is not None or candidate.weights is None:
        return source
    name, tag = parse_tag(candidate.weights)
    if tag in TORCHVISION_TAGS:
        found = resolve(tag, name)
        return Source({}, str(found), name, {}, geometry=found.geometry, mean=found.mean, std=found.std)
    # timm's tags say it in a file on the hub, which is not asked: the usual geometry is assumed
    usual = Geometry("crop", 224, 256)
    return Source(
        {}, candidate.weights, name, {}, geometry=usual, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def _local(data: str | Path) -> Path:
    """The folder of the data; of torchvision's sets only those that are here already."""
    from resight.runs.storage import cache_directory
    from resight.training.named import FOLDERS, PREFIX

    if not str(data).startswith(PREFIX):
        return Path(data)
    folder = cache_directory("data") / FOLDERS.get(str(data).removeprefix(PREFIX), "unknown")
    if not folder.is_dir():
        raise UsageError(
            f"{printable(str(data))} is not on this machine, and advise fetches nothing",
            hint=f"fetch it first, for example with: resight preview {printable(str(data))}",
        )
    return folder


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────

_TIMES = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}


def quantity(name: str, text: str | float, units: Mapping[str, float]) -> float:
    """``"20ms"`` → 0.02, ``"25MB"`` → 25e6; plain numbers are seconds or bytes. Raises UsageError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", str(text), re.IGNORECASE)
    unit = match[2].lower() if match else ""
    if not match or unit not in units or float(match[1]) <= 0:
        example = {"size": "25MB or 800kB", "latency": "20ms"}.get(name, "90s, 20m or 1.5h")
        raise UsageError(f"--{name} {text!r} is not understood", hint=f"for example {example}")
    return float(match[1]) * units[unit]


def _command(data: str, best: Option, budget: float | None, recipe: str | None, wishes: Mapping[str, Any]) -> str:
    from resight.recipes.options import train_command

    length = {"epochs": float(f"{best.epochs:.4g}")} if budget and best.steps else {}
    return train_command(data, recipe, {**best.candidate.wishes(), **length, **wishes})


def _machine(config: Any) -> dict[str, str]:
    from importlib.metadata import version

    from resight.inference.choose import processor
    from resight.training.machine import available_cores

    return {
        "processor": processor(),
        "cores": str(available_cores()),
        "threads": str(config.threads),
        "device": config.device,
        "torch": f"torch {version('torch')}",
        "onnxruntime": f"onnxruntime {version('onnxruntime')}",
    }


def to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
