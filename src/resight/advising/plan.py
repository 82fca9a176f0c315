"""Candidates with complete configurations, and what measurements say that they cost."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from resight.advising.candidates import Candidate
from resight.advising.choose import Limits, Option
from resight.advising.facts import DataFacts
from resight.advising.measure import Measured
from resight.advising.rates import NetRates, Work, at_rate, memory, parts
from resight.advising.timing import key_of
from resight.models import ResNet, Source, count_macs, create, parameter_count
from resight.recipes import TrainConfig
from resight.samples import SampleSet
from resight.training import machine, prepare
from resight.training.parts import frozen_depth

SHORTEST, LONGEST = 0.5, 4.0
"""Of the recipe's own length: how far a budget shortens or lengthens a training; the ladder's it never lengthens."""
_RESERVE = 0.9  # of a budget, as ``estimate.steps_for`` has it


@dataclass(frozen=True)
class Plan:
    """A candidate, its configuration with the number of steps, parameters, and multiply-accumulates of a picture."""

    candidate: Candidate
    config: TrainConfig
    parameters: int
    macs: int


def plan(
    candidate: Candidate, samples: SampleSet, sizes: np.ndarray, facts: DataFacts, wishes: dict[str, Any],
    recipe: str | None, source: Source | None,
) -> Plan:  # fmt: skip
    """As ``resight train`` would configure it. Raises UsageError for wishes that it refuses."""
    asked = wishes | candidate.wishes()
    asked.setdefault("data.channels", facts.channels)
    config, _ = prepare.configure(samples, sizes, asked, recipe, known=source)
    config.threads = threads_of(config)
    if config.transfer.rung != "features":  # which takes no steps
        prepare.resolve_steps(config, facts.counts["train"])
    net = network(config, facts.classes)
    frozen_depth(net, config.model.freeze)
    return Plan(candidate, config, parameter_count(net), count_macs(net, config.data.image_size))


def network(config: TrainConfig, classes: int) -> ResNet:
    """Its shapes only."""
    options: dict[str, Any] = dict(config.model.options)
    with torch.device("meta"):
        return create(config.model.name, num_classes=classes, in_channels=config.data.channels, **options)


def threads_of(config: TrainConfig) -> int:
    """What ``machine.set_threads`` would set, without setting it."""
    if config.threads:
        return config.threads
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else machine.available_cores()


def work_of(facts: DataFacts, config: TrainConfig) -> Work:
    return Work(
        train=facts.counts["train"],
        val=facts.counts["val"],
        test=facts.counts["test"],
        cores=machine.available_cores(),
        threads=config.threads,
        listing=facts.listing,
        check=facts.check,
        measure=not config.data.mean,
    )


def option(planned: Plan, facts: DataFacts, found: Measured, plans: Sequence[Plan], limits: Limits) -> Option:
    """What the plan costs, its length fitted to the budget if there is one."""
    config = planned.config.model_copy(deep=True)
    key, side = key_of(config), config.data.image_size
    net = found.rates.get(key) or estimated(planned, found, plans)
    read = found.reads[side]
    work = work_of(facts, config)
    full, per_epoch = config.total_steps, max(1, work.train // config.batch)

    def costs(steps: int) -> dict[str, float]:
        config.total_steps = steps
        return parts(config, net, read, found.basics, work)

    full_seconds = sum(costs(full).values())
    if limits.budget and full:
        longest = 1.0 if config.transfer.rung == "lpft" else LONGEST
        steps = fitting(lambda n: sum(costs(n).values()), full, _RESERVE * limits.budget, longest)
        config.epochs = math.floor(10 * steps / per_epoch) / 10 or steps / per_epoch
        config.total_steps = max(1, round(config.epochs * per_epoch))
    spent = costs(config.total_steps)
    return Option(
        candidate=planned.candidate,
        recipe=config.recipe,
        epochs=config.total_steps / per_epoch,
        full=full / per_epoch,
        steps=config.total_steps,
        seconds=sum(spent.values()),
        parts=spent,
        full_seconds=full_seconds,
        memory=memory(config, net, read, found.basics, work),
        latency=1 / at_rate(net.one, side),
        throughput=at_rate(net.many, side),
        size=net.file,
        parameters=planned.parameters,
        measured=key in found.rates,
    )


def fitting(seconds: Any, full: int, most: float, longest: float = LONGEST) -> int:
    """The largest number of steps between SHORTEST and ``longest`` of ``full`` whose ``seconds(steps)`` are at most
    ``most``; the smallest of them where none is."""
    low, high = max(1, math.ceil(SHORTEST * full)), max(1, int(longest * full))
    if seconds(low) > most:
        return low
    while low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if seconds(middle) <= most else (low, middle - 1)
    return low


def estimated(planned: Plan, found: Measured, plans: Sequence[Plan]) -> NetRates:
    """Rates of a network that there was no time for: those of the measured one with the nearest number of operations,
    in proportion to it; and the size of its file from its parameters."""

    def cost(config: TrainConfig, side: int) -> int:
        return count_macs(network(config, 10), side)

    side = planned.config.data.image_size
    own = cost(planned.config, side)
    known = {key_of(p.config): p for p in plans if key_of(p.config) in found.rates}
    near = min(known.values(), key=lambda p: abs(math.log(cost(p.config, side) / own)))
    net, factor = found.rates[key_of(near.config)], own / cost(near.config, side)
    weights = planned.parameters / near.parameters
    per_picture = net.activations * (side / net.side) ** 2 * factor

    def scaled(points: dict[int, float], by: float) -> dict[int, float]:
        return {s: value * by for s, value in points.items()}

    return replace(
        net,
        update=net.update * weights,
        train=scaled(net.train, factor),
        answer=scaled(net.answer, factor),
        activations=per_picture,
        side=side,
        weights=4 * planned.parameters,
        saved=int(net.saved * weights),
        writing=net.writing * weights,
        export_bytes=int(net.export_bytes * weights),
        file=net.file + 4 * (planned.parameters - near.parameters),
        one=scaled(net.one, 1 / factor),
        many=scaled(net.many, 1 / factor),
        gpu=scaled(net.gpu, factor),
    )
