"""What a training will cost, measured on this machine before it starts: seconds, and what a forward pass keeps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from resight.errors import UsageError
from resight.recipes.config import TrainConfig
from resight.training.batches import to_device
from resight.training.objective import Objective
from resight.training.validate import answers

if TYPE_CHECKING:
    from resight.training.fit import Training
from resight.training.phases import fix_start, size_at

_WARM, _TIMED = 2, 5
_WARM_SMALL, _TIMED_SMALL = 1, 2  # at the sizes that pictures have on their way to the last


def steps_for(training: Training, seconds: float) -> int:
    """Updates that fit into ``seconds``, validation after every epoch and a reserve for sealing included.

    Takes real updates of ``training``, which must not be used for anything else afterwards. Raises UsageError
    when the time is too short for a single one.
    """
    loader, config = training.loader, training.config
    begun = time.perf_counter()
    rates = _rates(training)
    spent = time.perf_counter() - begun
    start = time.perf_counter()
    sample = np.arange(min(64, len(training.val)))
    for _ in answers(training.objective, training.val, sample, 64):
        pass
    validation = (time.perf_counter() - start) / len(sample) * len(training.val)
    waiting = max(0.0, rates.read / max(1, config.data.workers) - rates.update)
    decode_once = waiting * max(0, loader.steps_per_epoch - rates.made)
    usable = 0.9 * seconds - decode_once - rates.compiling - spent
    total = int(usable / (rates.update + validation / loader.steps_per_epoch))
    if total < 1:
        raise UsageError(
            f"a budget of {seconds:.0f} s is too short: one update takes {rates.update:.1f} s here",
            hint="give more time, or a smaller --model or --image-size",
        )
    return total


@dataclass(frozen=True)
class _Rates:
    """Seconds to make a batch, and for an update, averaged over the sizes that pictures will have; batches made for
    measuring them; seconds of compiling that the training will take once more."""

    read: float
    update: float
    made: int
    compiling: float


def _rates(training: Training) -> _Rates:
    config, every = training.config, max(1, training.config.total_steps // 1000)
    begin = fix_start(config)  # from there on almost nothing learns, which is quicker
    kinds = [(size_at(config, step), step >= begin) for step in range(0, config.total_steps, every)]
    largest = max(size for size, _ in kinds)
    read = update = compiling = 0.0
    made = 0
    for kind in sorted(set(kinds)):
        warm, timed = (_WARM, _TIMED) if kind[0] == largest else (_WARM_SMALL, _TIMED_SMALL)
        count = min(warm + timed, training.loader.steps_per_epoch)
        made += count
        first, share = kinds.index(kind) * every, kinds.count(kind) / len(kinds)
        reads, updates = zip(*(timed_update(training, first + n) for n in range(count)), strict=True)
        usual = float(np.median(updates[warm:] or updates))
        read, update = read + share * float(np.mean(reads)), update + share * usual
        compiling += max(0.0, updates[0] - usual) if config.compile else 0.0
    return _Rates(read, update, made, compiling)


def timed_update(training: Training, step: int) -> tuple[float, float]:
    """Seconds to make the batch of ``step``, and to update with it."""
    start = time.perf_counter()
    batch = training.loader.make(step)
    made = time.perf_counter()
    training.update(to_device(batch, training.device))
    return made - start, time.perf_counter() - made


def activations(objective: Objective, config: TrainConfig, device: torch.device) -> tuple[float, int]:
    """Bytes that a forward pass at the training size keeps for backward, for each picture; and bytes of the weights."""
    size = config.data.train_size
    images = torch.zeros(2, config.data.channels, size, size, device=device)
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    objective.net.train()
    state = {name: value.clone() for name, value in objective.net.state_dict().items()}
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        logits = objective.net.forward(images.contiguous(memory_format=torch.channels_last))
    del logits
    objective.net.load_state_dict(state)
    weights = sum(p.numel() * p.element_size() for p in objective.net.parameters())
    return max(1, sum(kept.values()) - weights) / 2, weights
