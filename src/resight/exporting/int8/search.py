"""From everything in int8 to as much of it as the budget allows: candidates, sensitivities, the fallback."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from resight.exporting.int8.graph import Layer, Proto, blocks_of
from resight.exporting.int8.loss import Loss, answers, spreads_apart
from resight.exporting.int8.methods import is_quantized
from resight.exporting.int8.targets import Workshop
from resight.inference.backend import Backend, Floats, Pixels

MOST_GRAPHS = 80
"""Layers are tried one by one; of a network with more, residual blocks are."""
TRIED, TRIED_CALIBRATION = 64, 32
"""Calibration pictures that a layer's sensitivity is measured on, and that it is calibrated with."""
APART = 0.1
"""Largest mean difference of OpenVINO's and ONNX Runtime's logits for one quantized graph, in spreads (see
`spreads_apart`): roundings make some.
"""
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One quantized form. kept: layers in fp32. why: how it came to be. apart: from ONNX Runtime's answers with the
    same graph, where another runtime answers; None where it is ONNX Runtime.
    """

    artifact: str
    why: str
    kept: tuple[str, ...]
    layers: int
    model: Proto
    files: dict[str, bytes]
    backend: Backend
    logits: Floats
    loss: Loss
    apart: float | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(len(data) for data in self.files.values())

    @property
    def sound(self) -> bool:
        """Whether the runtime computes it as another one does."""
        return self.apart is None or self.apart <= APART

    def fits(self, max_drop: float) -> bool:
        return self.sound and self.loss.within(max_drop)


@dataclass(frozen=True)
class Search:
    """What was tried, in order; the sensitivity of each layer, most sensitive first, empty where none was needed."""

    candidates: tuple[Candidate, ...]
    sensitivities: tuple[tuple[str, float], ...] = ()


def search(
    workshop: Workshop, val: Pixels, loss: Callable[[Floats], Loss], fp32: Backend, max_drop: float, say: Say
) -> Search:
    """Everything in int8; where that does not fit, additions in fp32 (if the runtimes differ), then the most sensitive
    layers one after another, until it fits: the fewest, as far as more layers in fp32 never lose more.

    val: the validation pictures. loss: of a candidate's logits for them.
    """
    layers = workshop.target.layers(workshop.model)
    found: list[Candidate] = []

    def tried(why: str, kept: Sequence[Layer]) -> Candidate | None:
        candidate = _made(workshop, why, kept, layers, val, loss)
        if candidate is not None:
            found.append(candidate)
            say(f"{candidate.artifact}, {why}: {_told(candidate)}")
        return candidate

    everything = tried("everything in int8", ())
    if everything is None or everything.fits(max_drop):
        return Search(tuple(found))
    always: tuple[Layer, ...] = ()
    if not everything.sound:
        always = tuple(layer for layer in layers if layer.addition)
        say(f"OpenVINO answers {everything.apart:.2f} spreads away from ONNX Runtime with the same graph")
        without = tried("additions in fp32", always)
        if without is None or without.fits(max_drop):
            return Search(tuple(found))
    rest = tuple(layer for layer in layers if layer not in always)
    units = rest if len(rest) <= MOST_GRAPHS else blocks_of(rest)
    say(f"sensitivity of {len(units)} {'layers' if units is rest else 'blocks'}, each alone in int8, {TRIED} pictures")
    measured = sensitivities(workshop, units, layers, fp32)
    order = sorted(range(len(units)), key=lambda k: -measured[k])

    def with_first(count: int) -> bool:
        kept = [units[k] for k in order[:count]]
        candidate = tried(_count(count, "layer" if units is rest else "block"), (*always, *kept))
        return candidate is not None and candidate.fits(max_drop)

    fewest(with_first, len(units) - 1)
    return Search(tuple(found), tuple((units[k].name, measured[k]) for k in order))


def sensitivities(workshop: Workshop, units: Sequence[Layer], layers: Sequence[Layer], fp32: Backend) -> list[float]:
    """How far the logits move, in spreads, when only this one is quantized: ``len(units)`` graphs of ``TRIED``
    pictures, which are calibration's, so that validation chooses nothing here.
    """
    pixels = workshop.pixels[:TRIED]
    (reference,) = answers(fp32, pixels, ("logits",))
    everything = {node for layer in layers for node in layer.nodes}
    found = []
    for unit in units:
        model = workshop.quantize(everything - set(unit.nodes), TRIED_CALIBRATION)
        if is_quantized(model):
            (logits,) = answers(workshop.open(workshop.target.files(model)), pixels, ("logits",))
            found.append(spreads_apart(reference, logits))
        else:
            found.append(0.0)
    return found


def fewest(fits: Callable[[int], bool], most: int) -> int | None:
    """The smallest count in 1 … ``most`` that fits, if each larger one does too; None where none was found to.

    Tries 1, 2, 4, … and then halves what is left: at most about 2 log₂(most) tries.
    """
    if most < 1:
        return None
    low, high = 0, 1
    while not fits(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _made(
    workshop: Workshop,
    why: str,
    kept: Sequence[Layer],
    layers: Sequence[Layer],
    val: Pixels,
    loss: Callable[[Floats], Loss],
) -> Candidate | None:
    """None where nothing would be in int8."""
    nodes: Collection[str] = {node for layer in kept for node in layer.nodes}
    model = workshop.quantize(nodes)
    if not is_quantized(model):
        return None
    files = workshop.target.files(model)
    backend = workshop.open(files)
    (logits,) = answers(backend, val, ("logits",))
    apart = apart_of(workshop, model, backend)
    names = tuple(layer.name for layer in layers if set(layer.nodes) & set(nodes))
    return Candidate(
        workshop.target.artifact, why, names, len(layers), model, files, backend, logits, loss(logits), apart
    )


def apart_of(workshop: Workshop, model: Proto, backend: Backend) -> float | None:
    """How far ``backend`` answers from ONNX Runtime with the same quantized graph, in spreads, on ``TRIED`` pictures of
    calibration; None where it is ONNX Runtime.
    """
    if workshop.target.runtime == "onnxruntime":
        return None
    (other,) = answers(workshop.open_onnx(model.SerializeToString()), workshop.pixels[:TRIED], ("logits",))
    (own,) = answers(backend, workshop.pixels[:TRIED], ("logits",))
    return spreads_apart(other, own)


def computed_wrongly(apart: float) -> str:
    """Why a graph that is further than ``APART`` from ONNX Runtime is not used."""
    return f"OpenVINO computes it wrongly: {apart:.2f} spreads of the logits from ONNX Runtime"


def _count(count: int, noun: str) -> str:
    return f"the most sensitive {noun} in fp32" if count == 1 else f"the {count} most sensitive {noun}s in fp32"


def _told(candidate: Candidate) -> str:
    drop = candidate.loss.drop
    return f"{100 * drop.value:+.2f} points lost [{100 * drop.low:+.2f}, {100 * drop.high:+.2f}]"


def plain_sensitivities(found: Search) -> list[list[Any]]:
    return [[name, round(float(value), 6)] for name, value in found.sensitivities]
