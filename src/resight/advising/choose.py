"""From candidates with their costs to one advice, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from resight.advising.candidates import Candidate
from resight.advising.facts import DataFacts
from resight.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What must not be exceeded; None for no limit. budget: seconds of training. latency: seconds for one picture.
    size: bytes of ``model.onnx``. memory: bytes while training, at the peak."""

    budget: float | None = None
    latency: float | None = None
    size: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Option:
    """A candidate with what it costs here.

    recipe: how it is trained. epochs: how long; full: how long the recipe has it. seconds: of ``resight train``; parts:
    what they go into; full_seconds: of the recipe's length. memory: peak bytes while training. latency: seconds for one
    picture. throughput: pictures a second, of many. size: bytes of the graph. measured: the network was measured, not
    estimated from another one's operations. exceeds: the limits that it breaks, and by what factor.
    """

    candidate: Candidate
    recipe: str
    epochs: float
    full: float
    steps: int
    seconds: float
    parts: dict[str, float]
    full_seconds: float
    memory: int
    latency: float
    throughput: float
    size: int
    parameters: int
    measured: bool = True
    exceeds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Advice:
    """options: all candidates, best expected quality first. chosen: the one to train. offline: the best without a
    download, None where that is ``chosen``. front: positions of options that no other one beats in quality without
    costing more time or latency. reasons: plain sentences. command: what to type."""

    data: DataFacts
    limits: Limits
    options: tuple[Option, ...]
    front: tuple[int, ...]
    chosen: int
    offline: int | None
    reasons: tuple[str, ...]
    command: str
    machine: dict[str, str]
    measuring: float

    @property
    def best(self) -> Option:
        return self.options[self.chosen]

    def brief(self) -> list[str]:
        """The advice and its reasons, line by line."""
        from resight.advising.reasons import brief

        return list(brief(self))

    def to_text(self) -> str:
        """For a terminal: the data, the advice with its reasons, all candidates, the command."""
        from resight.advising.reasons import text

        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Seconds, bytes, pictures a second."""
        plain: dict[str, Any] = {"data": self.data.to_dict(), "limits": asdict(self.limits), "machine": self.machine}
        options = [option.to_dict() | {"front": i in self.front} for i, option in enumerate(self.options)]
        plain |= {"options": options, "chosen": self.chosen, "offline": self.offline, "reasons": list(self.reasons)}
        return plain | {"command": self.command, "measuring_seconds": self.measuring}


def limited(option: Option, limits: Limits) -> Option:
    """The option with the limits that it breaks. A budget is broken by a training that is not half of the recipe's."""
    found = {
        "budget": option.seconds / limits.budget if limits.budget else 0.0,
        "latency": option.latency / limits.latency if limits.latency else 0.0,
        "size": option.size / limits.size if limits.size else 0.0,
        "memory": option.memory / limits.memory if limits.memory else 0.0,
    }
    return replace(option, exceeds={name: factor for name, factor in found.items() if factor > 1})


def order(options: Sequence[Option]) -> tuple[Option, ...]:
    """Best expected quality first; of equals the quickest first."""
    return tuple(sorted(options, key=lambda o: (-round(o.candidate.points, 6), o.full_seconds)))


def front(options: Sequence[Option]) -> tuple[int, ...]:
    """The Pareto front: options that no other one equals or beats in quality, training time and latency at once.

    Time is that of the recipe's length: with a budget many options would take the same.
    """

    def costs(option: Option) -> tuple[float, float, float]:
        return -option.candidate.points, option.full_seconds, option.latency

    def beaten(mine: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return other != mine and all(b <= a for a, b in zip(mine, other, strict=True))

    every = [costs(option) for option in options]
    return tuple(i for i, mine in enumerate(every) if not any(beaten(mine, other) for other in every))


def choose(options: Sequence[Option], usual: float | None) -> int:
    """The first that breaks no limit, and does not take longer than ``usual`` unless all do: then the quickest.

    Raises UsageError that names the limits to give way and the nearest candidate, when each breaks one.
    """
    fitting = [position for position, option in enumerate(options) if not option.exceeds]
    for position in fitting:
        if usual is None or options[position].seconds <= usual:
            return position
    if fitting:
        return min(fitting, key=lambda position: options[position].seconds)
    nearest = min(options, key=lambda o: (max(o.exceeds.values()), -o.candidate.points))
    broken = ", ".join(f"--{name} ({factor:.2g} times what is allowed)" for name, factor in nearest.exceeds.items())
    raise UsageError(
        f"none of {len(options)} candidates fits; the nearest is {nearest.candidate.title}, which breaks {broken}",
        hint=f"it would take {show_seconds(nearest.seconds)} to train, {1000 * nearest.latency:.1f} ms for a picture "
        f"{show_bytes(nearest.memory)} of memory, and {show_bytes(nearest.size)} on the disk: allow that, or look at "
        "all candidates without limits",
    )


def show_seconds(seconds: float) -> str:
    from resight.training.progress import duration

    return duration(seconds)


def show_bytes(count: float) -> str:
    """In decimal units, as files are shown."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.{0 if count >= 100 * size else 1}f} {unit}"
    return f"{count:.0f} bytes"
