"""int8 that cannot collapse unseen: quantize, measure, fall back, choose or refuse."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from resight.errors import DataError, QuantizationError, UsageError
from resight.exporting.int8.finish import Validation, finish
from resight.exporting.int8.graph import prepared
from resight.exporting.int8.loss import answers, loss_of
from resight.exporting.int8.methods import has_vnni
from resight.exporting.int8.pictures import Calibration, calibration_pictures, positions, stored_squares
from resight.exporting.int8.quiet import check_installed
from resight.exporting.int8.search import Candidate, Search, plain_sensitivities, search
from resight.exporting.int8.speed import Rates, measure_rates
from resight.exporting.int8.table import GOOD, Row, row_of, to_text
from resight.exporting.int8.targets import TARGETS, Workshop
from resight.images import printable
from resight.inference.backend import Backend, installed_backends, open_backend, thread_count
from resight.inference.tiled import only_whole
from resight.runs import ONNX, Artifact, Run, drafted
from resight.samples import SampleSet

PICTURES = 300
MAX_DROP = 0.5
FP32 = "onnxruntime"
ALIKE = 0.95
"""Share of pictures with the same best class, below which it is said: a network that is often wrong can be wrong
otherwise at the same accuracy.
"""
_WEIGHTS = {
    False: "weights of 8 bits: the processor sums their products without saturation",
    True: "weights of 7 bits: no VNNI is known of this processor, and 8 would saturate",
}
Timing = Callable[[Mapping[str, Backend], Sequence[int]], dict[str, Rates]]


@dataclass(frozen=True)
class Quantized:
    """artifacts: what was exported, at least one. rows: fp32 and all candidates, in the order that they were made."""

    artifacts: tuple[Artifact, ...]
    rows: tuple[Row, ...]
    measure: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the card of each artefact, which holds the table, and where it lies."""
        return {"artifacts": [{"path": str(one.path)} | asdict(one.card) for one in self.artifacts]}

    def told(self) -> str:
        """What was exported, and how to use it."""
        lines = []
        for one in self.artifacts:
            kept = one.card.fp32_layers
            lines.append(f"{printable(str(one.path))}: {one.card.name}, {one.bytes / 1e6:,.2f} MB")
            lines.append(f"stayed in fp32: {', '.join(kept) if kept else 'nothing'}")
            lines.append(f"answer with it: resight predict RUN PICTURES --artifact {one.card.name}")
        return "\n".join(lines)

    def to_text(self) -> str:
        """The table for a terminal."""
        names = {artifact.card.name: artifact.card.quantization["why"] for artifact in self.artifacts}
        chosen = [k for k, row in enumerate(self.rows) if row.loss and names.get(row.name) == row.why]
        return to_text(self.rows, self.measure, chosen)


def quantize(
    run: Run,
    samples: SampleSet,
    *,
    to: Sequence[str] = tuple(TARGETS),
    max_drop: float = MAX_DROP,
    pictures: int = PICTURES,
    seed: int | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
    timing: Timing = measure_rates,
) -> Quantized:
    """Quantize the Run's model.onnx after training, for each of ``to`` (openvino, onnx), and export what is good.

    samples: the data that the Run was trained with, split as then, classes in the Run's order: training pictures
    calibrate (at most ``pictures``, drawn by ``seed``, default the Run's), the validation part decides, the test part
    is evaluated. max_drop: the budget, in points of accuracy (of a multi-label Run: mAP) lost on validation, by the
    point estimate. threads: for computing; default: all processors that this process may use. say: gets lines of
    progress, and the table. timing: how rates are measured.

    A candidate is good where it is within the budget, computed as another runtime computes it, and faster than the best
    fp32 backend, for single pictures and for batches of 16. The first good one of each target is exported under
    ``openvino-int8`` or ``onnx-int8``; one of that name is replaced only then.

    Raises QuantizationError where no target has a good one, UsageError, DataError for data that lacks a part or has
    bad pictures, MissingExtra, RunLocked while another process exports one of the names, StorageError.
    """
    only_whole(run, "quantising")
    _check(run, samples, to, max_drop, pictures)
    count, seven_bits = thread_count(threads), not has_vnni()
    run.verify(ONNX)
    with ExitStack() as held:
        drafts = {name: held.enter_context(drafted(run, TARGETS[name].artifact)) for name in dict.fromkeys(to)}
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        calibration = calibration_pictures(run, samples, pictures, run.card.seed if seed is None else seed, count)
        say(f"calibrating on {len(calibration.pixels):,} training pictures; {_WEIGHTS[seven_bits]}")
        model = prepared(run.file(ONNX).read_bytes(), run.card.temperature)
        sides = {f"fp32, {name}": _fp32(run, name, count) for name in installed_backends()}
        validation = _validation(run, samples, sides[f"fp32, {FP32}"], folder / "val.npy", count)
        loss = partial(_loss, run, validation)
        shops, found = {}, {}
        for name in to:
            (folder / name).mkdir()
            shop = Workshop(TARGETS[name], model, calibration.pixels, folder / name, count, seven_bits)
            fp32 = sides[f"fp32, {FP32}"]
            shops[name], found[name] = shop, search(shop, validation.pixels, loss, fp32, max_drop, say)
        rows, candidates = _rows(run, sides, found, loss(validation.fp32).score, max_drop, timing)
        good = _first_good(rows, candidates)
        say(to_text(rows, _measure(run), [rows.index(row) for row, _ in good.values()]))
        if not good:
            raise _refused(run, rows, max_drop)
        about = {"max_drop": max_drop, "measure": _measure(run), "candidates": [row.to_dict() for row in rows]}
        artifacts = []
        for name in to:
            if TARGETS[name].artifact not in good:
                say(f"{TARGETS[name].artifact}: not exported, no form of it is good")
                continue
            row, chosen = good[TARGETS[name].artifact]
            own = about | _how(shops[name], calibration, found[name], chosen)
            artifacts.append(finish(run, drafts[name], samples, shops[name], chosen, validation, own, say))
            _warn(row, max_drop, say)
    return Quantized(tuple(artifacts), tuple(rows), _measure(run))


def _check(run: Run, samples: SampleSet, to: Sequence[str], max_drop: float, pictures: int) -> None:
    if not to or any(name not in TARGETS for name in to):
        raise UsageError(f"int8 is for {' and '.join(TARGETS)}, not for {', '.join(to) or 'nothing'}")
    if isinstance(max_drop, bool) or not (isinstance(max_drop, int | float) and 0 <= max_drop <= 100):
        raise UsageError(f"max_drop is {max_drop!r}; expected points of accuracy, 0 to 100")
    if type(pictures) is not int or pictures < 1:
        raise UsageError(f"pictures is {pictures!r}; expected a whole number, 1 or more")
    for name in to:
        check_installed(TARGETS[name].runtime)
    if samples.classes != run.classes or samples.task != run.card.task:
        raise DataError("the classes of the data are not those of the Run, in the same order, of the same task")
    if not positions(samples, "val"):
        raise DataError(
            "there are no validation pictures, so what int8 loses cannot be measured",
            hint="give data that has train and val",
        )


def _fp32(run: Run, name: str, threads: int) -> Backend:
    return open_backend(name, run.file(ONNX), threads, sha256=run.card.files[ONNX])


def _validation(run: Run, samples: SampleSet, fp32: Backend, place: Path, threads: int) -> Validation:
    indices = positions(samples, "val")
    pixels = stored_squares(run, samples, indices, place, threads)
    (logits,) = answers(fp32, pixels, ("logits",))
    return Validation(pixels, samples.targets([samples.samples[i] for i in indices]), indices, logits)


def _loss(run: Run, validation: Validation, logits: Any) -> Any:
    return loss_of(run, validation.fp32, logits, validation.truth)


def _rows(
    run: Run,
    sides: Mapping[str, Backend],
    found: Mapping[str, Search],
    score: float,
    max_drop: float,
    timing: Timing,
) -> tuple[list[Row], list[Candidate | None]]:
    """fp32 first, then every candidate; timed together."""
    made = [candidate for some in found.values() for candidate in some.candidates]
    size, channels = run.card.geometry.size, run.card.channels
    backends = {**sides, **{f"{c.artifact}, {c.why}": c.backend for c in made}}
    rates = timing(backends, (size, size, channels))
    fp32 = [rates[name] for name in sides]
    length = run.file(ONNX).stat().st_size
    plain = [Row(name, "", length, score, rates[name]) for name in sides]
    rows = [row_of(c, rates[f"{c.artifact}, {c.why}"], fp32, max_drop) for c in made]
    return plain + rows, [None] * len(plain) + made


def _first_good(rows: Sequence[Row], candidates: Sequence[Candidate | None]) -> dict[str, tuple[Row, Candidate]]:
    """By artefact: the good candidate with the fewest layers in fp32."""
    good: dict[str, tuple[Row, Candidate]] = {}
    for row, candidate in zip(rows, candidates, strict=True):
        if candidate is not None and row.verdict == GOOD:
            known = good.get(row.name)
            if known is None or len(row.kept) < len(known[0].kept):
                good[row.name] = row, candidate
    return good


def _how(shop: Workshop, calibration: Calibration, found: Search, chosen: Candidate) -> dict[str, Any]:
    return {
        "method": shop.target.how,
        "weights_bits": 7 if shop.seven_bits else 8,
        "vnni": has_vnni(),
        "calibration": {"pictures": len(calibration.pixels), "fingerprint": calibration.fingerprint},
        "why": chosen.why,
        "fp32_layers": list(chosen.kept),
        "layers": chosen.layers,
        "sensitivities": plain_sensitivities(found),
    }


def _measure(run: Run) -> str:
    return "mAP" if run.card.task == "multi" else "accuracy"


def _refused(run: Run, rows: Sequence[Row], max_drop: float) -> QuantizationError:
    tried = [row for row in rows if row.loss is not None]
    reasons = "; ".join(f"{row.name}, {row.why}: {row.verdict}" for row in tried) or "nothing can be quantized"
    return QuantizationError(
        f"no int8 form of {run.path} is both faster than fp32 and within {max_drop:g} points: {reasons}",
        hint="allow more with --max-drop, or use fp32: resight export RUN --to …; what was there before is kept",
    )


def _warn(row: Row, max_drop: float, say: Callable[[str], None]) -> None:
    assert row.loss is not None
    if row.loss.top1_agreement < ALIKE:
        say(
            f"{row.name}: the best class is another one for {100 * (1 - row.loss.top1_agreement):.1f} % of validation, "
            "which an unchanged accuracy hides"
        )
    high = 100 * row.loss.drop.high
    if not math.isfinite(high) or high > max_drop:
        say(
            f"{row.name}: {row.loss.n:,} validation pictures cannot rule out a loss of {high:.2f} points "
            "(upper end of the 95 % interval)"
        )
