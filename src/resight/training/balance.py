"""Classes of different size: weights, priors and samplers, as pure functions of how many pictures each class has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.recipes.config import TrainConfig
from resight.recipes.sections import BalanceConfig
from resight.training.randomness import generator

Counts = NDArray[np.int64]
_SAMPLING_STREAM = 3
REPEAT = np.int64(2**32)


def class_weights(counts: Counts, config: BalanceConfig) -> NDArray[np.float64]:
    """How much a picture of each class counts: (K,), above 0, with a mean of 1 over the training pictures.

    counts: training pictures of each class, (K,); a class without any, which a continued Run may keep, is taken as one
    picture, and costs nothing. ``inverse`` are scikit-learn's "balanced" weights.
    Cui et al. 2019 let the weights sum to K instead, which makes the loss of a long tail small: the learning rate would
    change its meaning with the imbalance.
    """
    n = np.maximum(counts, 1).astype(np.float64)
    weights = {
        "none": np.ones_like(n),
        "inverse": 1 / n,
        "sqrt": 1 / np.sqrt(n),
        "effective": (1 - config.beta) / -np.expm1(n * np.log(config.beta)),  # (1 − β) / (1 − βⁿ), eq. 2
    }[config.weights]
    mean = (counts * weights).sum() / counts.sum()
    return np.asarray(weights / mean)


def log_prior(counts: Counts, config: BalanceConfig) -> NDArray[np.float64]:
    """τ · ln(share of each class in training), (K,), at most 0: what Menon et al. 2021, eq. 10, adds to the logits. A
    class without pictures is taken as one."""
    return np.asarray(config.logit_adjustment * np.log(np.maximum(counts, 1) / counts.sum()))


def class_shares(counts: Counts, sampling: str) -> NDArray[np.float64]:
    """The share of an epoch's pictures that each class gets, (K,), summing to 1 (Kang et al. 2020, eq. 1)."""
    power = {"balanced": 0.0, "sqrt": 0.5}[sampling]
    parts = np.where(counts > 0, counts.astype(np.float64) ** power, 0)
    return np.asarray(parts / parts.sum())


def quotas(counts: Counts, sampling: str) -> Counts:
    """Pictures of each class in an epoch of as many pictures as there are: (K,), rounded by largest remainder."""
    exact = class_shares(counts, sampling) * counts.sum()
    whole: Counts = np.floor(exact).astype(np.int64)
    missing = int(counts.sum() - whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole


def sampled(seed: int, epoch: int, labels: Counts, sampling: str) -> NDArray[np.int64]:
    """The training pictures of an epoch, in order, with the classes' shares as ``sampling`` says: int64 (N,).

    labels: (N,). Each value is a picture's position plus 2³² times how often it came before in this epoch, so that
    its repetitions are augmented differently. Within a class pictures come in turn: none comes twice more than another.
    A function of its arguments alone.
    """
    random = generator(seed, epoch, _SAMPLING_STREAM)
    counts = np.bincount(labels)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    chosen = []
    for own, quota in zip(by_class, quotas(counts, sampling).tolist(), strict=True):
        rounds = -(-quota // max(1, len(own)))
        for number in range(rounds):
            chosen.append(random.permutation(own)[: quota - number * len(own)] + number * REPEAT)
    drawn: NDArray[np.int64] = random.permutation(np.concatenate(chosen))
    return drawn


def positions(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in the training part the pictures of ``sampled`` are, without what counts their repetitions."""
    found: NDArray[np.int64] = order % REPEAT
    return found


def balances(config: TrainConfig) -> bool:
    """Whether anything is done about classes of different size."""
    return corrects(config.balance) or config.loss == "focal"


def corrects(config: BalanceConfig) -> bool:
    """Whether something depends on the classes' numbers of pictures."""
    return config.weights != "none" or config.sampling != "none" or config.logit_adjustment > 0


def remark(config: TrainConfig, counts: Counts) -> str:
    """What a person must know of a correction by the classes' numbers of pictures; empty where there is none."""
    if not corrects(config.balance):
        return ""
    if counts.min() == counts.max():
        return f"all classes have {counts.max():,} training pictures: there is nothing for balance to correct"
    return "balanced: compared with pictures as they come, small classes are answered more often and more surely"
