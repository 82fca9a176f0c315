"""Rates of networks: updates by the loop's own path, answers, checkpoints and graphs, while there is time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from resight.advising.rates import NetRates, Points
from resight.exporting.onnx import Answering, export_onnx
from resight.models import create
from resight.recipes import TrainConfig
from resight.samples import SampleSet
from resight.training import prepare, reading
from resight.training.checkpoint import Checkpoint, optimizer_tensors, save_checkpoint
from resight.training.estimate import activations, timed_update
from resight.training.fit import Training
from resight.training.memory import peak_memory, reset_peak, resident
from resight.training.objectives import objective_for
from resight.training.phases import sizes_of
from resight.training.progress import Silent
from resight.training.validate import answers

_UPDATE = 0.7  # seconds that one measured update should take
_WARM, _TIMED = 1, 3
_LEAST = 4  # pictures in a measured update, where each takes long


def key_of(config: TrainConfig) -> str:
    """What a network's rates depend on besides the side: its name and options."""
    return json.dumps([config.model.name, config.model.options], sort_keys=True)


@dataclass
class Net:
    """One network while it is measured. ``sides``: what its candidates need, in order."""

    config: TrainConfig
    sides: list[int]
    file: Path
    batch: int = 0
    update: float = 0.0
    train: Points = field(default_factory=dict)
    answer: Points = field(default_factory=dict)
    gpu: Points = field(default_factory=dict)
    activations: float = 0.0
    weights: int = 0
    saved: int = 0
    writing: float = 0.0
    exporting: float = 0.0
    export_bytes: int = 0

    @cached_property
    def embedding(self) -> int:
        options: dict[str, Any] = dict(self.config.model.options)
        with torch.device("meta"):
            return create(self.config.model.name, **options).fc.in_features


class Nets:
    """Measures every network at its smallest side, then at the largest, then between, until ``deadline`` (of
    ``time.perf_counter``). whole: the data set that ``samples`` are some of: the loss depends on how many pictures its
    classes have."""

    def __init__(
        self, samples: SampleSet, whole: SampleSet, configs: list[TrainConfig], folder: Path, deadline: float
    ) -> None:
        self.samples, self.whole, self.deadline = samples, whole, deadline
        self.nets: dict[str, Net] = {}
        for config in configs:
            sides = {*sizes_of(config), config.data.train_size, config.data.image_size}
            net = self.nets.setdefault(key_of(config), Net(config, [], folder / f"{len(self.nets)}.onnx"))
            net.batch = max(net.batch, config.micro_batch or config.batch)
            net.sides = sorted(sides | set(net.sides))

    def embeddings(self) -> list[int]:
        return sorted({net.embedding for net in self.nets.values()})

    def measure(self) -> Iterator[tuple[str, NetRates]]:
        """Rates of each network that there was time for, with its key: of the first one in any case."""
        begun: list[str] = []
        for key, net in self.nets.items():
            if not begun or self._time_for(3 * _UPDATE * (_WARM + _TIMED)):
                self._first(net)
                begun.append(key)
        known = [self.nets[key] for key in begun]
        for net in known:
            self._more(net, net.sides[-1])
        for place in (0.5, 0.25, 0.75):
            for net in known:
                self._more(net, net.sides[int(place * (len(net.sides) - 1))])
        least = min(net.exporting for net in known)
        for key in begun:
            net = self.nets[key]
            yield (
                key,
                NetRates(
                    **{name: getattr(net, name) for name in _SAME},
                    side=net.sides[0],
                    exporting=net.exporting - least,
                    file=net.file.stat().st_size,
                ),
            )

    def _time_for(self, seconds: float) -> bool:
        return time.perf_counter() + seconds < self.deadline

    def _first(self, net: Net) -> None:
        """At the smallest side: with two sizes of batch, which tell what an update takes whatever its pictures."""
        side, full = net.sides[0], self._most(net)
        few = min(8, full)
        at_few = self._update(net, side, few)
        many = max(few, min(full, max(2 * few, int(_UPDATE / at_few * few))))
        if many > few:
            at_many = self._update(net, side, many)
            slope = max(0.0, at_many - at_few) / (many - few)
            net.update = min(max(0.0, at_few - few * slope), 0.9 * at_few)
            at_few, few = at_many, many
        net.train[side] = (at_few - net.update) / few
        training = self._training(net, side, few)
        net.activations, net.weights = activations(training.objective, training.config, training.device)
        self._answer(net, side, training)
        training.update(training.loader.make(0))  # so that the optimizer has its state
        self._write(net, training)
        self._export(net, training)

    def _more(self, net: Net, side: int) -> None:
        """At another side, where there is time for it."""
        if side in net.train:
            return
        nearest = max(known for known in net.train if known < side)
        picture = net.train[nearest] * (side / nearest) ** 2
        batch = min(self._most(net), max(_LEAST, int((_UPDATE - net.update) / picture)))
        if self._time_for((_WARM + _TIMED + 1) * (net.update + batch * picture)):
            net.train[side] = max(0.0, self._update(net, side, batch) - net.update) / batch
            self._answer(net, side, self._training(net, side, batch))

    def _most(self, net: Net) -> int:
        return min(net.batch, len(self.samples.part("train")))

    def _training(self, net: Net, side: int, batch: int) -> Training:
        config = net.config.model_copy(deep=True)
        config.batch, config.total_steps, config.micro_batch, config.compile = batch, 1000, 0, False
        config.data.image_size = config.data.train_size = side
        config.data.start_scale, config.data.fix_share, config.model.weights = 1.0, 0.0, None
        built = prepare.build_net(config, len(self.samples.classes), None, lambda _: None)
        train = reading.train_pictures(self.samples, config)
        val = reading.eval_pictures(self.samples, "val", config)
        objective = objective_for(built, config, self.whole)
        return Training(None, config, objective, train, val, Silent())  # type: ignore[arg-type]

    def _update(self, net: Net, side: int, batch: int) -> float:
        """Median seconds of an update with so many pictures of that side."""
        training = self._training(net, side, batch)
        on_gpu = training.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(training.device)
        steps = range(min(_WARM + _TIMED, max(2, training.loader.steps_per_epoch)))
        times = [timed_update(training, step % training.loader.steps_per_epoch) for step in steps]
        if on_gpu and batch == net.batch:
            net.gpu[side] = float(torch.cuda.max_memory_reserved(training.device))
        return median(update for _, update in times[_WARM:])

    def _answer(self, net: Net, side: int, training: Training) -> None:
        """Seconds to answer a picture in PyTorch, pictures read before."""
        batch = max(1, min(32, len(training.val), int(3 * _UPDATE / max(1e-6, net.train[side]))))
        indices, times = np.arange(batch), []
        for _ in range(3):
            start = time.perf_counter()
            for logits in answers(training.objective, training.val, indices, 64):
                logits.cpu()
            times.append(time.perf_counter() - start)
        net.answer[side] = min(times[1:]) / batch

    def _write(self, net: Net, training: Training) -> None:
        average = training.average.state if training.average else {}
        checkpoint = Checkpoint(
            training.net.state_dict(), optimizer_tensors(training.optimizer, training.net), average, training.state
        )
        kinds = (checkpoint.weights, checkpoint.optimizer, checkpoint.average)
        net.saved = sum(tensor.nbytes for kind in kinds for tensor in kind.values())
        start = time.perf_counter()
        save_checkpoint(net.file.with_suffix(".checkpoints"), checkpoint, 1)
        net.writing = time.perf_counter() - start

    def _export(self, net: Net, training: Training) -> None:
        resettable, before = reset_peak(), resident()
        answering = Answering(training.net.cpu().eval(), net.config.data.mean, net.config.data.std, 1.0)
        start = time.perf_counter()
        export_onnx(answering, net.sides[0], net.file)
        net.exporting = time.perf_counter() - start
        net.export_bytes = max(0, peak_memory() - before) if resettable else 5 * net.weights


_SAME = (
    *("update", "train", "answer", "activations", "weights", "saved", "writing", "export_bytes", "embedding", "gpu"),
)
