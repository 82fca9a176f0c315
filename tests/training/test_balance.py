"""Classes of different size: weights, priors, samplers and losses against slow references; what they change."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from resight.errors import UsageError
from resight.evaluation import softmax
from resight.recipes import BALANCES, TrainConfig, balance_wishes, check_effects, override
from resight.recipes.sections import BalanceConfig
from resight.training import balance
from resight.training.augment import draw_mix
from resight.training.loader import Batch, TrainLoader
from resight.training.losses import label_loss
from resight.training.objective import Supervised
from resight.training.signals import StopRequest

from .tiny import SIDE, start, tiny_config, write_patterns

COUNTS = np.array([500, 40, 7, 1])
EACH, TRAINED = (60, 24, 6), (48, 20, 4)  # pictures of each class, and those of them that are trained on


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("uneven") / "data", EACH)


# ── weights and priors ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["inverse", "sqrt", "effective"])
def test_weights_have_a_mean_of_one_over_the_pictures_and_favour_small_classes(kind: str) -> None:
    weights = balance.class_weights(COUNTS, BalanceConfig(weights=kind))  # type: ignore[arg-type]
    assert (COUNTS * weights).sum() / COUNTS.sum() == pytest.approx(1, rel=1e-12)
    assert (np.diff(weights) > 0).all()


def test_inverse_weights_are_those_of_scikit_learn() -> None:
    utils = pytest.importorskip("sklearn.utils")
    labels = np.repeat(np.arange(4), COUNTS)
    expected = utils.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    found = balance.class_weights(COUNTS, BalanceConfig(weights="inverse"))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.9999, 1 - 1e-12])
def test_effective_numbers_are_geometric_sums(beta: float) -> None:
    """(1 − βⁿ) / (1 − β) = 1 + β + … + βⁿ⁻¹ (Cui et al. 2019, proposition 1)."""
    numbers = np.array([sum(beta**k for k in range(n)) for n in COUNTS])
    found = balance.class_weights(COUNTS, BalanceConfig(weights="effective", beta=beta))
    np.testing.assert_allclose(found / found[0], numbers[0] / numbers, rtol=1e-4 if beta > 0.99999 else 1e-9)


def test_the_prior_is_the_logarithm_of_the_share() -> None:
    found = balance.log_prior(COUNTS, BalanceConfig(logit_adjustment=0.5))
    np.testing.assert_allclose(np.exp(2 * found), COUNTS / 548)


@pytest.mark.parametrize("kind", ["inverse", "sqrt", "effective"])
def test_a_class_that_is_kept_without_pictures_breaks_nothing(kind: str) -> None:
    counts = np.array([30, 0, 10])
    found = balance.class_weights(counts, BalanceConfig(weights=kind))  # type: ignore[arg-type]  # one of them
    assert np.isfinite(found).all()
    assert (counts * found).sum() / counts.sum() == pytest.approx(1)
    assert balance.log_prior(counts, BalanceConfig(logit_adjustment=1))[1] == pytest.approx(np.log(1 / 40))


# ── sampling ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("sampling", "expected"), [("balanced", [25, 25, 25, 25]), ("sqrt", [54, 27, 13.5, 5.4])])
def test_quotas_follow_the_shares(sampling: str, expected: list[float]) -> None:
    counts = np.array([64, 16, 4, 1]) if sampling == "sqrt" else np.array([97, 1, 1, 1])
    found = balance.quotas(counts, sampling)
    assert found.sum() == counts.sum()
    share = np.sqrt(counts) / np.sqrt(counts).sum() if sampling == "sqrt" else np.full(4, 0.25)
    assert np.abs(found - share * counts.sum()).max() < 1


def test_quotas_leave_out_classes_without_pictures() -> None:
    assert balance.quotas(np.array([6, 0, 4]), "balanced").tolist() == [5, 0, 5]


def test_an_epoch_takes_each_class_as_often_and_its_pictures_in_turn() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [80, 15, 5]))
    order = balance.sampled(3, 7, labels, "balanced")
    found = balance.positions(order)
    assert Counter(labels[found].tolist()) == {0: 34, 1: 33, 2: 33}
    assert len(set(order.tolist())) == 100  # every repetition is another number
    for label, least in ((0, 0), (1, 2), (2, 6)):
        times = np.bincount(found, minlength=100)[labels == label]
        assert times.min() == least
        assert times.max() <= least + 1
    np.testing.assert_array_equal(order, balance.sampled(3, 7, labels, "balanced"))
    assert not np.array_equal(order, balance.sampled(3, 8, labels, "balanced"))
    assert not np.array_equal(order, balance.sampled(4, 7, labels, "balanced"))


def test_equal_classes_are_each_taken_once() -> None:
    labels = np.tile(np.arange(4), 5)
    order = balance.sampled(0, 0, labels, "balanced")
    assert sorted(order.tolist()) == list(range(20))


def test_ranks_share_a_batch_and_repetitions_are_changed_differently(uneven: Path, tmp_path: Path) -> None:
    changes = {"balance.sampling": "balanced", "batch": 24, "augment.shift": 6}
    training = start(tmp_path / "run", uneven, changes)
    pictures = training.loader.pictures
    whole = training.loader.make(1)
    for rank in range(2):
        half = TrainLoader(pictures, training.config, rank=rank, world=2).make(1)
        assert torch.equal(half.pixels, whole.pixels[rank::2])
        np.testing.assert_array_equal(half.parameters.shift, whole.parameters.shift[rank::2])
    assert len(set(whole.indices.tolist())) < 24
    seen = {(index, *shift) for index, shift in zip(whole.indices, whole.parameters.shift.tolist(), strict=True)}
    assert len(seen) > len(set(whole.indices.tolist())) + 2
    made = [training.loader.make(step).labels for step in range(training.loader.steps_per_epoch)]
    counts = np.bincount(torch.cat(made).numpy())
    assert counts.max() <= 1.6 * counts.min()  # 48, 20 and 4 in the training part


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────────


def slow_loss(kind: str, logits: NDArray[np.float64], target: NDArray[np.float64], gamma: float) -> float:
    """Of one picture, written out."""
    if kind == "bce":
        parts = [
            t * math.log1p(math.exp(-x)) + (1 - t) * math.log1p(math.exp(x))
            for x, t in zip(logits, target, strict=True)
        ]
        return sum(parts) / len(parts)
    total = sum(math.exp(x) for x in logits)
    loss = 0.0
    for x, t in zip(logits, target, strict=True):
        p = math.exp(x) / total
        loss -= t * math.log(p) * ((1 - p) ** gamma if kind == "focal" else 1)
    return loss


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "bce"])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_soft_targets(kind: str, weighted: bool) -> None:
    random = np.random.default_rng(1)
    logits, targets = 3 * random.normal(size=(9, 4)), random.dirichlet(np.ones(4), 9)
    weights = random.uniform(0.1, 5, 9) if weighted else np.ones(9)
    each = [slow_loss(kind, x, t, 1.7) for x, t in zip(logits, targets, strict=True)]
    found = label_loss(
        torch.tensor(logits), torch.tensor(targets), kind, 1.7, torch.tensor(weights) if weighted else None
    )
    assert found.item() == pytest.approx((weights * each).mean(), rel=1e-9)


def test_focal_of_equal_logits_and_of_gamma_near_zero() -> None:
    targets = torch.eye(5, dtype=torch.float64)
    assert label_loss(torch.zeros(5, 5).double(), targets, "focal", 2.0).item() == pytest.approx(0.8**2 * math.log(5))
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double()
    near = label_loss(logits, targets, "focal", 1e-9).item()
    assert near == pytest.approx(label_loss(logits, targets, "cross_entropy", 0).item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_has_finite_gradients_where_the_network_is_sure(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0, 0], [0, 200.0, 0]], requires_grad=True)
    label_loss(logits, torch.eye(3)[[0, 0]], "focal", gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


class Fixed(nn.Module):
    """A network that answers with given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.num_classes = nn.Parameter(logits), logits.shape[1]

    def forward(self, _: Tensor) -> Tensor:
        return self.logits


def outcome(data: Path, path: Path, **changes: Any) -> tuple[float, float, NDArray[np.float64], Batch, TrainConfig]:
    """Loss and number of correct answers of fixed logits, with the logits, the batch and the configuration."""
    training = start(path, data, {**changes, "balance.sampling": changes.get("balance.sampling", "none")})
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    batch = training.loader.make(2)
    counts = np.bincount(training.loader.pictures.labels)
    objective = Supervised(Fixed(logits), training.config, counts)  # type: ignore[arg-type]
    loss, logs = objective(batch)
    return loss.item(), logs["correct"].item(), logits.double().numpy(), batch, training.config


@pytest.mark.parametrize("mixing", ["augment.mixup", "augment.cutmix", "none"])
@pytest.mark.parametrize(("kind", "smoothing"), [("cross_entropy", 0.2), ("focal", 0.2), ("bce", 0.0)])
def test_a_mixed_picture_costs_the_mixture_of_both_weighted_labels(
    kind: str, smoothing: float, mixing: str, uneven: Path, tmp_path: Path
) -> None:
    changes = {"loss": kind, "label_smoothing": smoothing, "balance.weights": "sqrt"}
    if mixing != "none":
        changes[mixing] = 1.0
    found, _, logits, batch, config = outcome(uneven, tmp_path / "run", **changes)
    labels = batch.labels.numpy()
    n = np.array(TRAINED)
    w = 1 / np.sqrt(n)
    w /= (n * w).sum() / n.sum()
    how = draw_mix(config.augment, config.seed, batch.step)
    share = 1.0 if how is None else how.weight
    if how is not None and how.kind == "cutmix":
        left, top, right, bottom = (round(edge * 28) for edge in how.box)
        share = 1 - (bottom - top) * (right - left) / 28**2
    total = 0.0
    for x, own, other in zip(logits, labels, labels[::-1], strict=True):
        for label, part in ((own, share), (other, 1 - share)):
            target = np.full(3, smoothing / 3)
            target[label] += 1 - smoothing
            total += part * w[label] * slow_loss(kind, x, target, config.focal_gamma)
    assert found == pytest.approx(total / 8, rel=1e-5)


def test_logits_are_adjusted_in_the_loss_only(uneven: Path, tmp_path: Path) -> None:
    found, correct, logits, batch, _ = outcome(uneven, tmp_path / "run", **{"balance.logit_adjustment": 1.5})
    prior = np.array(TRAINED) / sum(TRAINED)
    adjusted = logits + 1.5 * np.log(prior)
    labels = batch.labels.numpy()
    expected = [slow_loss("cross_entropy", x, np.eye(3)[y], 0) for x, y in zip(adjusted, labels, strict=True)]
    assert found == pytest.approx(np.mean(expected), rel=1e-5)
    assert correct == (logits.argmax(1) == labels).sum()  # as it would be answered


def test_smoothing_follows_the_adjustment(uneven: Path, tmp_path: Path) -> None:
    """Smoothed evenly, answers to pictures that show nothing would favour the rare class; the best plain logits, which
    follow from ∂loss = 0, are the same for all classes but the label only if smoothing follows the prior."""
    settings = {"balance.logit_adjustment": 1.0, "label_smoothing": 0.3}
    training = start(tmp_path / "run", uneven, settings)
    targets = training.objective.inputs(training.loader.make(0)).targets.double()
    prior = torch.tensor(TRAINED).double() / sum(TRAINED)
    labels = training.loader.make(0).labels
    torch.testing.assert_close(targets, 0.7 * torch.eye(3).double()[labels] + 0.3 * prior, rtol=1e-5, atol=1e-7)
    best = targets.log() - prior.log()  # softmax(best + ln prior) = targets
    for row, label in zip(best, labels.tolist(), strict=True):
        others = [value for k, value in enumerate(row.tolist()) if k != label]
        assert others == pytest.approx([math.log(0.3)] * 2, rel=1e-5)


def test_without_counts_nothing_is_assumed(uneven: Path, tmp_path: Path) -> None:
    for change in ({"balance.weights": "sqrt"}, {"balance.logit_adjustment": 1.0}):
        with pytest.raises(ValueError, match="numbers of training pictures"):
            Supervised(Fixed(torch.zeros(8, 3)), tiny_config(uneven, change))  # type: ignore[arg-type]
    objective = start(tmp_path / "run", uneven, {"balance.weights": "sqrt"}).objective
    assert "class_weights" not in objective.state_dict()  # they belong to the training, not to the network


# ── what it changes ────────────────────────────────────────────────────────────────────────────────────────────


def levels(folder: Path, counts: dict[str, int], seed: int) -> None:
    """Grey pictures whose mean is normal about 110 (dark) or 150 (light), both with a deviation of 25: they overlap."""
    random = np.random.default_rng(seed)
    for name, mean in (("dark", 110), ("light", 150)):
        (folder / name).mkdir(parents=True)
        for number in range(counts[name]):
            pixels = random.normal(random.normal(mean, 25), 8, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light pictures are one of twenty in training, and one of two in validation."""
    root = tmp_path_factory.mktemp("rare")
    levels(root / "train", {"dark": 380, "light": 20}, 0)
    levels(root / "val", {"dark": 40, "light": 40}, 1)
    levels(root / "test", {"dark": 1, "light": 1}, 2)
    return root


def validated(data: Path, path: Path, **changes: Any) -> tuple[float, float, float]:
    """Recall of the frequent and of the rare class, and the mean confidence, after a short training."""
    usual = {
        "total_steps": 75,
        "batch": 32,
        "optimizer.lr": 0.02,
        "augment.crop": "none",
        "optimizer.average_epochs": 2,
    }
    training = start(path, data, {**usual, **changes})
    training.fit()
    found = training.evaluate(StopRequest(print))
    answers, labels = found.logits.argmax(1), training.val.labels
    recalls = [float((answers[labels == k] == k).mean()) for k in range(2)]
    assert found.recall == pytest.approx(np.mean(recalls))
    return recalls[0], recalls[1], float(softmax(found.logits).max(1).mean())


def test_the_rare_class_is_found_more_often(rare: Path, tmp_path: Path) -> None:
    """By the overlap, nobody finds more than about 15 % of it at 19 : 1, and everybody 79 % at 1 : 1.

    Focal loss leaves the better class the better one; it makes networks less sure (Mukhoti et al. 2020).
    """
    often, seldom, sure = validated(rare, tmp_path / "none")
    for name in ("weights", "sampling", "logit"):
        frequent, found, _ = validated(rare, tmp_path / name, **BALANCES[name])
        assert found >= seldom + 0.15, name
        assert frequent <= often, name
    assert validated(rare, tmp_path / "focal", loss="focal")[2] < sure - 0.05


# ── wishes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_word_sets_the_fields_and_how_the_best_epoch_is_chosen() -> None:
    for name, fields in BALANCES.items():
        wishes = balance_wishes(name, {})
        config = override(TrainConfig(), wishes)
        check_effects(config, wishes)
        assert balance.balances(config) == (name != "none")
        assert config.select == ("accuracy" if name == "none" else "balanced")
        assert fields.items() <= wishes.items()


def test_what_is_said_otherwise_counts_unless_it_turns_the_wish_off() -> None:
    assert balance_wishes("logit", {"balance.logit_adjustment": "1.5", "select": "accuracy"}) == {}
    assert balance_wishes("weights", {"balance.weights": "sqrt"}) == {"select": "balanced"}
    for name, other in (("logit", {"balance.logit_adjustment": "0"}), ("focal", {"loss": "bce"})):
        with pytest.raises(UsageError, match="contradict each other"):
            balance_wishes(name, other)
    with pytest.raises(UsageError, match="one of: none, weights, sampling, logit, focal"):
        balance_wishes("smote", {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"balance.weights": "sqrt", "balance.sampling": "sqrt"}, "twice: choose one"),
        ({"balance.sampling": "balanced", "balance.logit_adjustment": 1}, "twice: choose one"),
        ({"balance.logit_adjustment": 1, "loss": "bce"}, "derived for loss=cross_entropy"),
        ({"balance.logit_adjustment": 1, "loss": "focal"}, "derived for loss=cross_entropy"),
        ({"loss": "bce", "label_smoothing": 0.1}, "label_smoothing belongs to"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        override(TrainConfig(), changes)


def test_what_a_correction_means_is_said() -> None:
    config = override(TrainConfig(), {"balance.weights": "inverse"})
    assert "nothing for balance to correct" in balance.remark(config, np.array([5, 5]))
    assert "small classes are answered more often" in balance.remark(config, np.array([5, 4]))
    assert balance.remark(TrainConfig(), np.array([5, 4])) == ""


def test_configurations_of_before_mean_the_same() -> None:
    plain = json.loads(TrainConfig().to_json())
    for field in ("balance", "distill", "select", "focal_gamma"):
        del plain[field]
    config = TrainConfig.from_json(json.dumps(plain).encode(), "config.json")
    assert config == TrainConfig()
    assert not balance.balances(config)
    assert (config.select, config.distill.teacher) == ("accuracy", None)
