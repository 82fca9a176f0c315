"""The parity gate: an artefact is kept only if it answers as the Run's ``model.onnx`` does, on real pictures.

``model.onnx`` was compared with the network itself when the Run was sealed. fp32 forms must agree within 1e-4 in
probability, and on the best class of every picture whose two best are further apart than that (`resight.evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ParityError
from resight.evaluation import Parity, compare
from resight.evaluation.intervals import Estimate
from resight.evaluation.paired import compare_answers
from resight.images import printable
from resight.inference import Predictor, batched
from resight.inference.backend import Floats, Pixels
from resight.runs import Run

Answer = Callable[[Pixels], Floats]
"""uint8 (N, S, S, C) → probabilities float32 (N, K), through the artefact's own path."""
_AT_ONCE = 32


@dataclass(frozen=True)
class Checked:
    """The pictures of a gate. squares: (name, uint8 (S, S, C)) of each, made as they are asked for. labels: int64 (N,),
    positions in the Run's classes; None where they are not known or are many a picture. what: in words.
    """

    squares: Iterable[tuple[str, Pixels]]
    labels: NDArray[np.int64] | None
    what: str


@dataclass(frozen=True)
class Gate:
    """What was found. accuracy: of model.onnx and of the artefact; difference: the artefact's minus the other, paired,
    within -1 … 1. These are None without labels. worst: the picture with the largest difference.
    """

    what: str
    parity: Parity
    worst: str
    accuracy: tuple[Estimate, Estimate] | None = None
    difference: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are kept in the artefact's card."""
        parity = self.parity
        plain: dict[str, Any] = {
            "pictures": parity.n,
            "of": self.what,
            "decided": parity.decided,
            "top1_agreement": parity.top1_agreement,
            "max_abs": parity.max_abs,
            "mean_abs": parity.mean_abs,
            "worst": self.worst,
        }
        if self.accuracy is not None and self.difference is not None:
            one, other = self.accuracy
            plain["accuracy"] = {"run": one.value, "artefact": other.value}
            d = self.difference
            plain["difference"] = {"value": d.value, "low": d.low, "high": d.high, "method": d.method}
        return plain

    def to_text(self) -> str:
        """Lines for a terminal."""
        parity = self.parity
        lines = [
            f"pictures        {parity.n:,}, {self.what}",
            f"same best class {100 * parity.top1_agreement:.2f} % of the {parity.decided:,} that are decided",
            f"|Δp|            at most {parity.max_abs:.2g}, {parity.mean_abs:.2g} on average",
        ]
        if self.accuracy is not None and self.difference is not None:
            one, other = (100 * estimate.value for estimate in self.accuracy)
            value, low, high = (100 * x for x in (self.difference.value, self.difference.low, self.difference.high))
            lines.append(
                f"accuracy        {other:.2f} %, model.onnx {one:.2f} %: {value:+.2f} points [{low:+.2f}, {high:+.2f}]"
            )
        return "\n".join(lines)


def examine(run: Run, answer: Answer, checked: Checked, threads: int | None = None) -> Gate:
    """Compares ``answer`` with the Run's model.onnx; says what was found, good or bad."""
    reference = Predictor(run, backend="onnxruntime", threads=threads)
    names: list[str] = []
    parts: list[tuple[Floats, Floats]] = []
    for group in batched(checked.squares, _AT_ONCE):
        pixels = np.stack([square for _, square in group])
        names += [name for name, _ in group]
        parts.append((reference.run_pixels(pixels).probabilities, answer(pixels)))
    first, second = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    parity = compare(first, second)
    apart = np.nan_to_num(np.abs(first - second), nan=np.inf).max(axis=1)
    gate = Gate(checked.what, parity, names[int(apart.argmax())])
    if checked.labels is None:
        return gate
    pair = compare_answers(second.argmax(axis=1), first.argmax(axis=1), checked.labels, run.classes).overall
    return replace(gate, accuracy=(pair.second, pair.first), difference=pair.difference)


def check(gate: Gate, name: str) -> None:
    """Raises ParityError for an artefact that answers otherwise."""
    parity = gate.parity
    if parity.passed:
        return
    raise ParityError(
        f"the artefact {name!r} answers otherwise than the Run: by up to {parity.max_abs:.2g} in probability "
        f"({printable(gate.worst)}; allowed is 0.0001), the same best class for {100 * parity.top1_agreement:.2f} % of "
        f"{parity.decided:,} decided pictures. It was not kept, an earlier one stays",
        hint="this is a defect of the export or of the program that computes it: please report it with the versions",
    )
