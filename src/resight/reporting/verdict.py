"""What an evaluation means, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resight.evaluation import Estimate, Evaluation
from resight.evaluation.metrics import Floats
from resight.evaluation.text import GROUPED

FEW = 200  # pictures in all: intervals are wide
FEW_OF_A_CLASS = 20
NAMED = 5


@dataclass(frozen=True)
class Sentence:
    """``text`` with the names of strangers in it as they are: whoever shows it makes them harmless. ``careful``: a
    warning.
    """

    text: str
    careful: bool = False


def verdict(
    found: Evaluation, confidence: Floats, part: str, own_data: bool, unknown: Estimate | None
) -> list[Sentence]:
    """The most important first. ``confidence`` (N,): of the best class. ``part``: train, val, test or all;
    ``own_data``: of the data that the Run was trained with. ``unknown``: the share of pictures called so.
    """
    sentences = [_accuracy(found.metrics["accuracy"], found.n), *_confusion(found), *_weakest(found)]
    sentences.append(_calibration(found.metrics["ece"], float(confidence.mean()), found.metrics["accuracy"].value))
    if unknown is not None:
        sentences.append(unknown_share(unknown))
    return sentences + [Sentence(text, careful=True) for text in _cares(found, part, own_data)]


def _accuracy(accuracy: Estimate, n: int) -> Sentence:
    noun = "picture" if n == 1 else "pictures"
    return Sentence(
        f"It is right on {percent(accuracy.value)} of {n:,} {noun}. On others like them expect between "
        f"{percent(accuracy.low)} and {percent(accuracy.high)}; {n:,} {noun} cannot tell more exactly."
    )


def _confusion(found: Evaluation) -> list[Sentence]:
    most = found.confusions(1)
    if not most:
        return [Sentence("It made no mistake on them.")]
    ((true, answered, count),) = most
    support = int(found.confusion[true].sum())
    return [
        Sentence(
            f"Its most frequent mistake: {found.classes[true]} answered as {found.classes[answered]}, "
            f"{count:,} of {support:,} pictures ({percent(count / support)})."
        )
    ]


def _weakest(found: Evaluation) -> list[Sentence]:
    scored = [(result.f1.value, result) for result in found.per_class if result.f1 is not None]
    if len(scored) < 3:
        return []
    value, worst = min(scored, key=lambda pair: pair[0])
    interval = worst.f1
    if interval is None or value == 1:
        return []
    return [
        Sentence(
            f"Its weakest class is {worst.name}: F1 {percent(value)}, between {percent(interval.low)} and "
            f"{percent(interval.high)}."
        )
    ]


def _calibration(error: Estimate, confidence: float, accuracy: float) -> Sentence:
    mean = f"on average it is {percent(confidence)} sure and {percent(accuracy)} right"
    if error.low == 0:
        return Sentence(f"Its confidence can be believed as far as these pictures can tell: {mean}.")
    side = "too sure" if confidence > accuracy else "not sure enough"
    return Sentence(f"Its confidence is off by {percent(error.value)} (calibration error, ECE), mostly {side}: {mean}.")


def unknown_share(share: Estimate) -> Sentence:
    return Sentence(
        f"It calls {percent(share.value)} of them unknown, unlike what it learned from ({percent(share.low)} to "
        f"{percent(share.high)}); of pictures like its training data that should be about 5\u00a0%."
    )


def _cares(found: Evaluation, part: str, own_data: bool) -> list[str]:
    cares = own_data_cares(part, own_data, "its best epoch and its temperature")
    if found.n < FEW:
        cares.append(f"{found.n} pictures are few: every number here is rough.")
    small = [result.name for result in found.per_class if 0 < result.support < FEW_OF_A_CLASS]
    if small:
        cares.append(
            f"Fewer than {FEW_OF_A_CLASS} pictures of {list_names(small)}: numbers of {_these(small)} say little."
        )
    if any(group.n > 1 for group in found.groups):
        cares.append(GROUPED)
    absent = [result.name for result in found.per_class if not result.support]
    if absent:
        cares.append(f"No pictures of {list_names(absent)}: nothing is known of {_these(absent)}.")
    return cares


def own_data_cares(part: str, own_data: bool, chosen: str) -> list[str]:
    """What to beware of in a part of the data that the Run was trained with; ``chosen``: what validation decided."""
    if not own_data:
        return []
    cares = {
        "train": "These are the pictures that it learned from: on others it will be worse.",
        "val": f"These pictures chose {chosen}: on others it will be a little worse.",
        "all": "Pictures that it learned from are among these: on others it will be worse.",
    }
    return [cares[part]] if part in cares else []


def _these(names: Sequence[str]) -> str:
    return "that class" if len(names) == 1 else "these classes"


def list_names(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        return f"{len(names)} classes ({', '.join(names[:NAMED])}, …)"
    return ", ".join(names)


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"
