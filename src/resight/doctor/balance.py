"""Classes: missing from a part, too small to be evaluated, far larger than others, almost named alike."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from resight.doctor.finding import Finding, counted
from resight.evaluation import wilson
from resight.images import printable
from resight.samples import TEST_FRACTION, VAL_FRACTION, SampleSet
from resight.samples.model import show_names

UNEVEN, VERY_UNEVEN = 3.0, 10.0
"""The largest class by the smallest, in train: a note, a warning."""
ENOUGH = 30
"""Pictures of a class in a part: with fewer, a recall of 90 % has an interval wider than 22 points."""

REMEDY = "--balance logit"
"""What `resight train` is told to do about uneven classes of which each picture has one: see docs/imbalance.md."""


def findings(samples: SampleSet) -> list[Finding]:
    return [*_missing(samples), *_few(samples), *_uneven(samples), *_alike(samples)]


def carved_parts(samples: SampleSet) -> tuple[str, ...]:
    """The parts that a training would carve out of train: those without a picture."""
    present = {sample.split for sample in samples.samples}
    return tuple(part for part in ("val", "test") if part not in present)


def _missing(samples: SampleSet) -> Iterator[Finding]:
    for part, counts in samples.counts().items():
        gone = [samples.classes[k] for k in np.flatnonzero(counts == 0).tolist()]
        if not gone or (part != "train" and not counts.any()):
            continue
        train = part == "train"
        yield Finding(
            "missing-class", "error" if train else "warning",
            f"classes without a picture in {part} ({len(gone):,} of {len(samples.classes):,})",
            "they cannot be learned; training refuses classes that only other parts have" if train
            else f"nothing in {part} says how well they are recognised, and means over classes leave them out",
            "add pictures, remove the classes, or correct a misspelt name" if train
            else f"add pictures of them to {part}",
            texts=tuple(f"{printable(name)}: none in {part}" for name in gone),
        )  # fmt: skip
    if len(samples.classes) < 2 and samples.task == "single":
        yield Finding(
            "one-class", "error", "only one class", "there is nothing to tell apart: training refuses it",
            "add pictures of a second class", texts=(f"only {show_names(samples.classes)}",),
        )  # fmt: skip


def _few(samples: SampleSet) -> Iterator[Finding]:
    counts, shares = samples.counts(), {"val": VAL_FRACTION, "test": TEST_FRACTION}
    for part in ("val", "test"):
        carved = not counts[part].any()
        sizes = np.floor(counts["train"] * shares[part] + 0.5).astype(np.int64) if carved else counts[part]
        few = [k for k in np.argsort(sizes, kind="stable").tolist() if 0 < sizes[k] < ENOUGH]
        if few:
            about = ", about 10 % of train, as training would carve it" if carved else ""
            yield Finding(
                "too-few", "note" if carved else "warning",
                f"classes too small to evaluate in {part}{about} ({len(few):,} of {len(samples.classes):,})",
                "their recall is known only roughly: differences between two networks will mostly be chance",
                f"add pictures of them to {'the data' if carved else part}, and read the intervals",
                texts=tuple(_width(samples.classes[k], int(sizes[k])) for k in few),
            )  # fmt: skip


def _width(name: str, size: int) -> str:
    found = wilson(0.9 * size, size)
    return (
        f"{printable(name)}: {counted(size, 'picture')}; a recall of 90 % would be known as "
        f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    )


def _uneven(samples: SampleSet) -> Iterator[Finding]:
    counts = samples.counts()["train"]
    there = counts[counts > 0]
    if len(there) < 2 or there.max() < UNEVEN * there.min():
        return
    ratio, order = there.max() / there.min(), np.argsort(counts, kind="stable")
    names = [k for k in order.tolist() if counts[k]]
    ends = names if len(names) <= 10 else [*names[:5], *names[-5:]]
    yield Finding(
        "imbalance", "warning" if ratio >= VERY_UNEVEN else "note",
        f"classes of very different size in train ({there.min():,} to {there.max():,} pictures)",
        "networks favour the large classes: accuracy looks good while small classes are missed",
        "read the means of classes and each class's recall, not accuracy alone; add pictures to the small ones"
        + (f", or train with {REMEDY}" if samples.task == "single" else ""),
        texts=tuple(f"{printable(samples.classes[k])}: {counts[k]:,}" for k in ends),
    )  # fmt: skip


def _alike(samples: SampleSet) -> Iterator[Finding]:
    spelt = defaultdict(list)
    for name in samples.classes:
        plain = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
        spelt[plain or name].append(name)
    alike = [names for names in spelt.values() if len(names) > 1]
    if alike:
        yield Finding(
            "similar-names", "warning", f"classes whose names are almost the same ({len(alike):,})",
            "one class learned as two: each is taken for the other", "merge them if they mean the same",
            texts=tuple(" and ".join(printable(name) for name in names) for names in alike),
        )  # fmt: skip
