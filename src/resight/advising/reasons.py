"""Why, in plain sentences; and the table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from resight.advising.choose import Limits, Option, show_bytes, show_seconds
from resight.advising.facts import DataFacts

if TYPE_CHECKING:
    from resight.advising.choose import Advice

USUAL = 3600.0
"""Seconds that are assumed where no budget was given: only for the choice, not for the length of the training."""
FEW = 5000
UNEVEN = 10.0


def reasons(
    facts: DataFacts, limits: Limits, options: Sequence[Option], chosen: int, offline: int | None
) -> Iterator[str]:
    best = options[chosen]
    yield (
        f"{best.candidate.title} comes first in the published order of what fits: more depth and more pixels were "
        "better on ImageNet and CIFAR-10. What accuracy it will have on these data is not predicted."
    )
    yield from _left_out(limits, options, chosen)
    yield from _length(limits, best)
    yield from _weights(facts, options, best, offline)
    if not facts.small and facts.side < 200:
        yield f"larger sizes than {facts.side} px were left out: the pictures do not have these pixels."
    if facts.ratio >= UNEVEN:
        yield (
            f"the largest class has {facts.ratio:.0f} times the pictures of the smallest: judge by the means of "
            "classes, not by accuracy."
        )
    if not best.measured:
        yield "there was no time to measure this network: its costs are in proportion to a measured one's operations."


def _left_out(limits: Limits, options: Sequence[Option], chosen: int) -> Iterator[str]:
    better = options[:chosen]
    for name, what in (("budget", "take longer than --budget"), ("latency", "answer slower than --latency"),
                       ("size", "are larger than --size"), ("memory", "take more than --memory")):  # fmt: skip
        broken = [o for o in better if name in o.exceeds]
        if broken:
            yield f"{len(broken)} that would come before it {what}, such as {broken[-1].candidate.title}."
    slow = [option for option in better if not option.exceeds]
    if slow and limits.budget is None:
        yield (
            f"no --budget was given, so an hour was assumed: {len(slow)} that would come before it take longer, such "
            f"as {slow[-1].candidate.title} ({show_seconds(slow[-1].seconds)})."
        )


def _length(limits: Limits, best: Option) -> Iterator[str]:
    if limits.budget is None or best.exceeds or not best.steps:
        return
    share = best.epochs / best.full
    if share < 0.99:
        yield f"the budget shortens it to {best.epochs:.1f} of the recipe's {best.full:.0f} epochs."
    elif share > 1.01:
        yield f"the budget allows {best.epochs:.1f} epochs; the recipe has {best.full:.0f}."


def _weights(facts: DataFacts, options: Sequence[Option], best: Option, offline: int | None) -> Iterator[str]:
    if best.candidate.weights and not facts.small:
        few = f"{facts.counts['train']:,} training photos are few: " if facts.counts["train"] < FEW else ""
        yield f"{few}features learned on other photos usually gain more than any other choice (Kornblith et al. 2019)."
    if best.candidate.download:
        other = f" Without one: {options[offline].candidate.title}." if offline is not None else ""
        size = show_bytes(best.candidate.download)
        yield f"its weights must be downloaded first, {size}; nothing was fetched now.{other}"
    if not best.candidate.weights and facts.counts["train"] < FEW:
        yield (
            f"with {facts.counts['train']:,} pictures from scratch, more depth was counted for little: it rarely helps "
            "there (He et al. 2019; Brigato and Iocchi 2020)."
        )


# ── the terminal ───────────────────────────────────────────────────────────────────────────────────────────────


def text(advice: Advice) -> str:
    """The whole advice, for a terminal."""
    counted = {name: f"{value} {name}" for name, value in advice.machine.items() if name in ("cores", "threads")}
    about = ", ".join((advice.machine | counted).values())
    lines = [*advice.data.sentences(), f"measured in {advice.measuring:.0f} s: {about}", "", *brief(advice), ""]
    return "\n".join([*lines, *table(advice), "", f"to train it:  {advice.command}"])


def brief(advice: Advice) -> Iterator[str]:
    """What is advised, and why."""
    best = advice.best
    length = f"{best.epochs:.1f} epochs" if best.steps else "the last layer alone, without updates"
    yield f"advice: {best.candidate.title}, recipe {best.recipe}, {length}"
    yield f"  trains in about {show_seconds(best.seconds)}, with up to {show_bytes(best.memory)} of memory"
    yield (
        f"  answers a picture in {1000 * best.latency:.1f} ms, {best.throughput:,.0f} pictures a second; "
        f"model.onnx takes {show_bytes(best.size)}"
    )
    for reason in advice.reasons:
        yield f"  - {reason}"


def table(advice: Advice) -> Iterator[str]:
    """All candidates, the best expected first."""
    wide = max(len(_name(option)) for option in advice.options)
    yield (
        f"   {'candidate':<{wide}}{'px':>5}{'epochs':>8}{'trains in':>11}{'memory':>10}{'a picture':>11}"
        f"{'a second':>10}{'model.onnx':>12}"
    )
    for position, option in enumerate(advice.options):
        mark = "→" if position == advice.chosen else " "
        star = "*" if position in advice.front else " "
        about = " " if option.measured else "~"
        yield (
            f"{mark}{star} {_name(option):<{wide}}{option.candidate.image_size:>5}{option.epochs:>8.1f}"
            f"{about + show_seconds(option.seconds):>11}{show_bytes(option.memory):>10}"
            f"{1000 * option.latency:>8.1f} ms{option.throughput:>10,.0f}{show_bytes(option.size):>12}"
            f"{_why_not(option)}"
        ).rstrip()
    yield ""
    yield "→ the advice   * nothing else is as good and quick   ~ estimated from another network's operations"
    yield "order: by published results of these networks and sizes, not by these data (docs/advise.md)"


def _name(option: Option) -> str:
    candidate = option.candidate
    download = " (download)" if candidate.download else ""
    return f"{candidate.model}{f' from {candidate.weights}' if candidate.weights else ''}{download}"


def _why_not(option: Option) -> str:
    return f"   over --{', --'.join(option.exceeds)}" if option.exceeds else ""
