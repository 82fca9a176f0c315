"""One evaluation of a multi-label network: every metric, ready for JSON and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import DataError, UsageError
from resight.evaluation.intervals import Estimate, calibration_interval, f1_interval, resampled_means, studentized
from resight.evaluation.intervals import wilson as proportion
from resight.evaluation.metrics import Floats, Ints
from resight.evaluation.multilabel import calibration, metrics
from resight.evaluation.multilabel.counting import counting_metrics
from resight.evaluation.multilabel.metrics import Bools
from resight.evaluation.multilabel.ranking import rank_labels
from resight.evaluation.multilabel.text import render
from resight.evaluation.ranking import Ranking


@dataclass(frozen=True)
class LabelResult:
    """One class. ``support``: pictures that have it; ``given``: pictures that were answered with it, from
    ``threshold`` on. None where undefined: precision of a label never given, recall and F1 of a class without
    pictures, AUROC and average precision also of one that all pictures have.
    """

    name: str
    support: int
    given: int
    threshold: float
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    auroc: Estimate | None
    average_precision: Estimate | None


@dataclass(frozen=True, eq=False)
class MultilabelEvaluation:
    """What `evaluate_multilabel` found on ``n`` pictures.

    ``metrics``, in this order: "map" and "auroc" (means over classes that some pictures have and some not), "map_micro"
    (of all labels ranked together), "macro_precision", "macro_recall", "macro_f1" (over classes with pictures),
    "micro_precision", "micro_recall", "micro_f1" (of all labels together) at the thresholds, "subset_accuracy" (all
    labels of a picture right), "hamming_loss" (share of labels that are wrong), "log_loss" (nats a label), "brier" and
    "ece" (of all labels together); what is undefined is missing. ``base_rate``: the mean over the classes of "map" of
    the share of pictures that have it: the mAP of answers by chance. ``uncalibrated``: "log_loss", "brier" and "ece"
    without the temperature, or nothing. ``together``: int64 (K, K), read-only: pictures that have the class of the row
    and were answered with that of the column; ``labels_per_picture``: mean of what they have and were answered with.
    ``grouped``: some pictures share a group, so that intervals are too narrow.
    """

    n: int
    classes: tuple[str, ...]
    metrics: Mapping[str, Estimate]
    per_class: tuple[LabelResult, ...]
    together: Ints
    base_rate: float
    labels_per_picture: tuple[float, float]
    uncalibrated: Mapping[str, Estimate] = field(default_factory=dict)
    grouped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``task`` is "multi". ``together``: [true, answered, count] of what is not 0."""
        true, answered = np.nonzero(self.together)
        cells = np.stack([true, answered, self.together[true, answered]], axis=1)
        return {
            "task": "multi",
            "n": self.n,
            "classes": list(self.classes),
            "metrics": {name: asdict(estimate) for name, estimate in self.metrics.items()},
            "uncalibrated": {name: asdict(estimate) for name, estimate in self.uncalibrated.items()},
            "per_class": [asdict(result) for result in self.per_class],
            "together": cells.tolist(),
            "base_rate": self.base_rate,
            "labels_per_picture": list(self.labels_per_picture),
            "grouped": self.grouped,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> MultilabelEvaluation:
        """The inverse of `to_dict`. Raises DataError if ``stored`` is not what that made."""
        try:
            classes = tuple(str(name) for name in stored["classes"])
            together = np.zeros((len(classes), len(classes)), dtype=np.int64)
            for true, answered, count in stored["together"]:
                together[true, answered] = count
            have, answered_with = stored["labels_per_picture"]
            return cls(
                n=int(stored["n"]),
                classes=classes,
                metrics={name: Estimate(**fields) for name, fields in stored["metrics"].items()},
                per_class=tuple(_label_result(fields) for fields in stored["per_class"]),
                together=_read_only(together),
                base_rate=float(stored["base_rate"]),
                labels_per_picture=(float(have), float(answered_with)),
                uncalibrated={name: Estimate(**fields) for name, fields in stored["uncalibrated"].items()},
                grouped=bool(stored.get("grouped", False)),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"this is not a stored multi-label evaluation: {type(error).__name__}: {error}",
                hint="evaluate again to make a new one",
            ) from error

    def to_text(self, max_classes: int = 40) -> str:
        """Tables for a terminal: metrics, and the classes; of more than ``max_classes`` those with the lowest average
        precision. Raises UsageError if ``max_classes`` is negative.
        """
        if max_classes < 0:
            raise UsageError(f"max_classes must be 0 or more, not {max_classes}")
        return render(self, max_classes)


def evaluate_multilabel(
    logits: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str],
    thresholds: Sequence[float],
    *,
    seed: int = 0,
    temperature: float = 1.0,
    groups: Sequence[str | None] | None = None,
) -> MultilabelEvaluation:
    """All metrics, with 95 % intervals: of ranks by the infinitesimal jackknife over pictures, of means over classes
    and of all labels together by a bootstrap over pictures, of single proportions Wilson's
    (`resight.evaluation.intervals`).

    ``logits`` (N, K) float, as they are answered with: already divided by ``temperature``. ``targets`` (N, K) of 0 and
    1. ``thresholds``: K probabilities from which on a label is given. ``seed`` fixes the bootstrap. ``groups``: of each
    picture, None where it has none. Raises UsageError and DataError as `metrics.checked` does, UsageError also where
    the K do not fit.
    """
    scores, own = metrics.checked(logits, targets)
    if isinstance(classes, str) or not len(classes) == len(thresholds) == scores.shape[1]:
        raise UsageError(
            f"{len(classes)} class names and {len(thresholds)} thresholds do not fit {scores.shape[1]} logits a picture"
        )
    if not temperature > 0:
        raise UsageError(f"the temperature must be above 0, not {temperature}")
    chances = metrics.sigmoid(scores)
    # in float32, as the graph answers and thresholds are kept
    chosen = calibration.given(chances.astype(np.float32), thresholds)
    ranked, micro = rank_labels(chances, own)
    found = {} if ranked.macro_average_precision is None else {"map": ranked.macro_average_precision}
    found |= {"auroc": ranked.macro_auroc} if ranked.macro_auroc else {}
    found |= {"map_micro": micro} if micro else {}
    found |= counting_metrics(chosen, own, seed=seed)
    found |= _confidence(scores, own, seed)
    before = {} if temperature == 1 else _confidence(scores * temperature, own, seed)
    rates = own.mean(axis=0)[metrics.rankable(own)]
    return MultilabelEvaluation(
        n=len(own),
        classes=tuple(classes),
        metrics=found,
        per_class=_each_class(classes, thresholds, chosen, own, ranked),
        together=_read_only(metrics.pairs(own, chosen)),
        base_rate=float(rates.mean()) if len(rates) else 0.0,
        labels_per_picture=(float(own.sum(axis=1).mean()), float(chosen.sum(axis=1).mean())),
        uncalibrated=before,
        grouped=any(count > 1 for group, count in Counter(groups or ()).items() if group is not None),
    )


def _confidence(scores: Floats, own: Bools, seed: int) -> dict[str, Estimate]:
    chances = metrics.sigmoid(scores)
    losses = metrics.binary_losses(scores, own).mean(axis=1)
    squares = ((chances - own) ** 2).mean(axis=1)
    gaps = calibration.calibration_gaps(chances, own)
    rows = np.column_stack([losses, losses**2, squares, squares**2, gaps])
    drawn = resampled_means(rows, seed=seed)  # one set of draws serves all
    error, drawn_errors = float(np.abs(gaps.mean(axis=0)).sum()), np.abs(drawn[:, 4:]).sum(axis=1)
    return {
        "log_loss": studentized(losses, drawn[:, 0], drawn[:, 1]),
        "brier": studentized(squares, drawn[:, 2], drawn[:, 3], most=1.0),
        "ece": calibration_interval(error, drawn_errors, calibration.chance_errors(chances, seed=seed)),
    }


def _each_class(
    names: Sequence[str], thresholds: Sequence[float], chosen: Bools, own: Bools, ranked: Ranking
) -> tuple[LabelResult, ...]:
    rights, givens, supports = (values.tolist() for values in metrics.counts(chosen, own))
    results = []
    for k, (name, right, given, support) in enumerate(zip(names, rights, givens, supports, strict=True)):
        results.append(
            LabelResult(
                name=name,
                support=support,
                given=given,
                threshold=float(thresholds[k]),
                precision=proportion(right, given) if given else None,
                recall=proportion(right, support) if support else None,
                f1=f1_interval(right, given, support) if support else None,
                auroc=ranked.auroc[k],
                average_precision=ranked.average_precision[k],
            )
        )
    return tuple(results)


def _label_result(fields: Mapping[str, Any]) -> LabelResult:
    plain = ("name", "support", "given", "threshold")
    shares = {key: None if value is None else Estimate(**value) for key, value in fields.items() if key not in plain}
    return LabelResult(
        str(fields["name"]), int(fields["support"]), int(fields["given"]), float(fields["threshold"]), **shares
    )


def _read_only(matrix: Ints) -> Ints:
    matrix.setflags(write=False)
    return matrix
