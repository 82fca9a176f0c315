"""The last layer by multinomial logistic regression over frozen features, its penalty chosen on held-out pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from resight.evaluation import accuracy, confusion, log_loss, macro

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""λ of mean loss + λ/2 · ‖weights‖² over standardised features, strong to weak; each starts from the one before."""

FOLDS = 5
SMALL = 1000
"""Validation parts of fewer pictures choose no penalty: at 1,000 the standard error of an accuracy is still 1 %."""

_ITERATIONS = 200
_PATIENCE = 2  # penalties in turn that are worse, after which weaker ones are not tried


@dataclass(frozen=True)
class Head:
    """A linear layer over embeddings: ``weight`` float32 (K, D), ``bias`` float32 (K,)."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """float32 (N, D) → (N, K)."""
        found: Floats = features @ self.weight.T + self.bias
        return found


Tried = tuple[float, float, float, float]


@dataclass(frozen=True)
class Choice:
    """How the penalty was chosen: on which pictures, and what it has there: accuracy and the classes' mean recall, both
    in [0, 1], loss in nats. tried: (penalty, accuracy, loss, mean recall) of each."""

    penalty: float
    on: str
    accuracy: float
    loss: float
    recall: float
    tried: tuple[Tried, ...]


def path(features: Floats, labels: Labels, classes: int) -> Iterator[tuple[float, Head]]:
    """The heads of ``PENALTIES``, in order. features: float32 (N, V, D), V views of each picture, which count alike.

    Features are standardised, and the standardisation is folded into the head. A class without pictures gets no weights
    and a bias below all others.
    """
    views = features.shape[1]
    rows = features.reshape(-1, features.shape[2]).astype(np.float64)
    targets = np.repeat(labels, views)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std < 1e-6 * max(1.0, float(std.max()))] = 1.0  # what never changes says nothing
    rows = (rows - mean) / std
    model = LogisticRegression(warm_start=True, max_iter=_ITERATIONS, tol=1e-3)
    for penalty in PENALTIES:
        model.set_params(C=1 / (penalty * len(rows)))
        with warnings.catch_warnings():
            # Weak penalties on separable features have no near optimum; held-out pictures decide over what came out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, targets)
        yield penalty, _folded(model, mean, std, classes)


def _folded(model: LogisticRegression, mean: NDArray[Any], std: NDArray[Any], classes: int) -> Head:
    """W (x − mean) / std + b as one linear layer over x."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes: the log odds of the second
        coefficients, intercepts = np.concatenate([-coefficients, coefficients]) / 2, np.array([-1, 1]) * intercepts / 2
    weight = np.zeros((classes, coefficients.shape[1]))
    weight[model.classes_] = coefficients / std
    bias = np.full(classes, intercepts.min() - 5.0)
    bias[model.classes_] = intercepts - weight[model.classes_] @ mean
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def fit(
    train: tuple[Floats, Labels, Sequence[str | None]],
    val: tuple[Floats, Labels],
    classes: int,
    seed: int,
    balanced: bool = False,
) -> tuple[Head, Choice]:
    """The head of all training pictures, with the penalty that answers held-out pictures best.

    train: features float32 (N, V, D), labels int64 (N,), groups; val: features float32 (M, V, D), labels. Held out are
    the validation pictures, or, where these are fewer than ``SMALL``, each fifth of the training part in turn
    (stratified; with groups, whole groups). Only pictures as they are count there, not mirrored. Best is the highest
    accuracy, with ``balanced`` the highest mean recall of the classes; of equals the lower loss.
    """
    features, labels, groups = train
    folds = list(_folds(labels, groups, seed)) if len(val[1]) < SMALL else []
    if folds:
        parts = [(features[a], labels[a], features[b, 0], labels[b]) for a, b in folds]
        on = f"{len(folds)}-fold cross-validation of {len(labels):,} training pictures"
    else:
        parts = [(features, labels, val[0][:, 0], val[1])]
        on = f"{len(val[1]):,} validation pictures"
    tried, heads = _scores(parts, classes)
    best = max(tried, key=lambda row: (row[3] if balanced else row[1], -row[2]))
    penalty, right, loss, recall = best
    if folds:
        head = next(head for found, head in path(features, labels, classes) if found == penalty)
    else:  # fitted to all training pictures already
        head = heads[tried.index(best)][0]
    return head, Choice(penalty, on, right, loss, recall, tuple(tried))


def mean_recall(logits: Floats, labels: Labels) -> float:
    """Of the classes that there are pictures of, in [0, 1]. logits: float32 (N, K)."""
    return macro(confusion(logits.argmax(1), labels, logits.shape[1])).recall


def _folds(
    labels: Labels, groups: Sequence[str | None], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions to fit and to answer; none where even the largest class, or the groups, are too few for folds."""
    grouped = any(group is not None for group in groups)
    names = [f"/{position}" if group is None else f"={group}" for position, group in enumerate(groups)]
    count = min(FOLDS, int(np.bincount(labels).max()), len(set(names)))
    if count < 2:
        return
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes of fewer pictures than folds are in some of them
        found = list(splitter.split(labels, labels, names))
    yield from ((fit, held) for fit, held in found if len(held) and len(set(labels[fit].tolist())) > 1)


def _scores(
    parts: Sequence[tuple[Floats, Labels, Floats, Labels]], classes: int
) -> tuple[list[Tried], list[list[Head]]]:
    """(penalty, accuracy, loss, mean recall) over all held-out pictures together, until ``_PATIENCE`` losses in turn
    were worse; and for each penalty the heads of the parts."""
    paths = [path(features, labels, classes) for features, labels, _, _ in parts]
    truth = np.concatenate([held for *_, held in parts])
    found: list[Tried] = []
    kept: list[list[Head]] = []
    for penalty in PENALTIES:
        heads = [next(heads)[1] for heads in paths]
        kept.append(heads)
        logits = np.concatenate([head.logits(part[2]) for head, part in zip(heads, parts, strict=True)])
        found.append((penalty, accuracy(logits, truth).share, log_loss(logits, truth), mean_recall(logits, truth)))
        best = min(range(len(found)), key=lambda place: found[place][2])
        if len(found) - 1 - best >= _PATIENCE:
            break
    return found, kept
