"""What depends on the step alone: the size of the pictures, what is changed in them, the rate, and when the last part
of ``data.fix_share`` begins.
"""

from __future__ import annotations

from resight.recipes.config import TrainConfig
from resight.recipes.sections import AugmentConfig
from resight.training.optim import rate_factor

FIX_RATE = 0.1
"""The first rate of ``data.fix_share``, as a share of the peak; it falls linearly to zero."""


def sizes_of(config: TrainConfig) -> list[int]:
    """Sides in pixels that training pictures will have, in order (progressive resizing, Howard 2018).

    From ``data.start_scale`` of it, rounded down to a multiple of 4 px but at least 16, to ``data.train_size``; about
    an eighth of the latter apart and at least 4 px, counted down from it.
    """
    last = config.data.train_size
    first = max(16, int(last * config.data.start_scale) // 4 * 4)
    if config.data.start_scale == 1 or first >= last:
        return [last]
    stage = max(4, last // 8 // 4 * 4)
    return [*range(last, min(last - 1, first + stage // 2), -stage), first][::-1]


def fix_start(config: TrainConfig) -> int:
    """The first update of ``data.fix_share``, from 0: ``total_steps`` where there is none. At least one comes before
    it, and the share has at least one where there are two.
    """
    share, total = config.data.fix_share, config.total_steps
    return max(min(1, total), total - max(1, round(share * total))) if share else total


def augment_at(config: TrainConfig, step: int) -> AugmentConfig:
    """What is changed in the pictures of update ``step``: in those of ``data.fix_share`` they are mirrored at most."""
    if step < fix_start(config):
        return config.augment
    return AugmentConfig(crop="none", flip=config.augment.flip)


def size_at(config: TrainConfig, step: int) -> int:
    """Side in pixels of the training pictures in update ``step``, from 0: the sizes in turn, equally long.

    The last size is reached after ``data.grow_until`` of the updates, and in the last update at the latest. Updates of
    ``data.fix_share`` have the size that is answered, and do not count.
    """
    sizes, total = sizes_of(config), fix_start(config)
    if step >= total and config.data.fix_share:
        return config.data.image_size
    until = min(config.data.grow_until * total, total - 1)
    return sizes[-1] if step >= until else sizes[int(step / until * (len(sizes) - 1))]


def rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of update ``step``, from 0."""
    begin = fix_start(config)
    if step < begin:
        return config.optimizer.lr * rate_factor(config.schedule, step, begin)
    return config.optimizer.lr * FIX_RATE * (1 - (step - begin) / (config.total_steps - begin))
