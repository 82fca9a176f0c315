"""Each loss against a slow reference in NumPy, closed forms, and what must not get a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resight.pretraining.byol import regression
from resight.pretraining.dino import Prototypes, self_distillation
from resight.pretraining.fastsiam import multi_view
from resight.pretraining.simclr import nt_xent
from resight.pretraining.views import follow, follower, momentum_at


def rows(views: int, count: int, width: int, seed: int = 0) -> list[Tensor]:
    return list(torch.randn(views, count, width, generator=torch.Generator().manual_seed(seed)))


def slow_nt_xent(views: list[Tensor], temperature: float) -> float:
    """Chen et al. 2020, eq. 1, term by term."""
    everything = [
        (v, i, row / np.linalg.norm(row)) for v, view in enumerate(views) for i, row in enumerate(view.numpy())
    ]
    losses = []
    for v, i, own in everything:
        others = [(w, j, float(np.exp(own @ row / temperature))) for w, j, row in everything if (w, j) != (v, i)]
        total = sum(score for *_, score in others)
        losses += [-math.log(score / total) for _, j, score in others if j == i]
    return float(np.mean(losses))


@pytest.mark.parametrize(("views", "count"), [(2, 5), (3, 4)])
def test_nt_xent_against_its_definition(views: int, count: int) -> None:
    some = rows(views, count, 6)
    assert float(nt_xent(some, 0.3)) == pytest.approx(slow_nt_xent(some, 0.3), rel=1e-5)


def test_similarities_are_not_rounded_under_autocast() -> None:
    some, prototypes = rows(2, 32, 16), Prototypes(16, 32, 64).eval()
    exact = nt_xent(some, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(nt_xent(some, 0.1)) == pytest.approx(float(exact), rel=1e-6)
        found, narrow = prototypes(some[0])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, narrow @ F.normalize(prototypes.prototypes, dim=1).T)


@pytest.mark.parametrize("count", [1, 4, 33])
def test_nt_xent_of_equal_similarities_is_log_of_the_others(count: int) -> None:
    same = [torch.ones(count, 5)] * 2
    assert float(nt_xent(same, 0.1)) == pytest.approx(math.log(2 * count - 1), abs=1e-5)


def test_nt_xent_of_views_found_at_once_is_small() -> None:
    apart = torch.eye(8)
    assert float(nt_xent([apart, apart], 0.05)) == pytest.approx(math.log1p(14 * math.exp(-20)), abs=1e-6)


def test_regression_is_two_minus_twice_the_cosine() -> None:
    first = torch.tensor([[1.0, 0], [0, 3]])
    assert float(regression(first, first * 2)) == pytest.approx(0)
    assert float(regression(first, first.flip(1))) == pytest.approx(2)
    assert float(regression(first, -first)) == pytest.approx(4)


def test_multi_view_against_its_definition() -> None:
    projections, predictions = rows(4, 3, 5), rows(4, 3, 5, seed=1)
    found = float(multi_view(predictions, projections))
    losses = []
    for k in range(4):
        for i in range(3):
            target = sum(projections[j][i].numpy() for j in range(4) if j != k) / 3
            own = predictions[k][i].numpy()
            losses.append(-own @ target / np.linalg.norm(own) / np.linalg.norm(target))
    assert found == pytest.approx(float(np.mean(losses)), rel=1e-5)


def test_multi_view_of_two_is_simsiam() -> None:
    projections, predictions = rows(2, 6, 4), rows(2, 6, 4, seed=1)
    first = -F.cosine_similarity(predictions[0], projections[1]).mean() / 2
    second = -F.cosine_similarity(predictions[1], projections[0]).mean() / 2
    assert float(multi_view(predictions, projections)) == pytest.approx(float(first + second))


@pytest.mark.parametrize("stopped", [True, False])
def test_the_gradient_into_targets_is_stopped(stopped: bool) -> None:
    projections = [row.requires_grad_() for row in rows(3, 4, 5)]
    predictions = [row.requires_grad_() for row in rows(3, 4, 5, seed=1)]
    multi_view(predictions, projections, stop_gradient=stopped).backward()  # type: ignore[no-untyped-call]
    assert all(row.grad is not None and row.grad.abs().sum() > 0 for row in predictions)
    assert all((row.grad is None) == stopped for row in projections)


def test_self_distillation_against_its_definition() -> None:
    students, teachers, center = rows(3, 4, 6), rows(2, 4, 6, seed=1), torch.randn(6)

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max())
        return np.asarray(e / e.sum())

    losses = []
    for i, teacher in enumerate(teachers):
        for j, student in enumerate(students):
            if i != j:
                for t, s in zip(teacher.numpy(), student.numpy(), strict=True):
                    losses.append(-(softmax((t - center.numpy()) / 0.2) * np.log(softmax(s / 0.5))).sum())
    found = self_distillation(students, teachers, center, 0.5, 0.2)
    assert float(found) == pytest.approx(float(np.mean(losses)), rel=1e-5)


def test_a_student_that_says_nothing_costs_the_log_of_the_prototypes() -> None:
    flat = [torch.zeros(4, 16)] * 3
    found = self_distillation(flat, rows(2, 4, 16), torch.zeros(16), 0.1, 0.04)
    assert float(found) == pytest.approx(math.log(16), rel=1e-5)


def test_no_gradient_flows_into_the_teacher() -> None:
    teachers = [row.requires_grad_() for row in rows(2, 4, 6)]
    students = [row.requires_grad_() for row in rows(2, 4, 6, seed=1)]
    self_distillation(students, teachers, torch.zeros(6), 0.1, 0.04).backward()  # type: ignore[no-untyped-call]
    assert all(row.grad is None for row in teachers)
    assert all(row.grad is not None for row in students)


def test_prototypes_answer_with_cosines() -> None:
    scores, narrow = Prototypes(8, 16, 5)(torch.randn(7, 8))
    assert scores.shape == (7, 5)
    assert scores.abs().max() <= 1 + 1e-6
    assert narrow.norm(dim=1).tolist() == pytest.approx([1] * 7, rel=1e-5)


def test_momentum_rises_from_its_base_to_one() -> None:
    assert momentum_at(0.9, 0, 100) == pytest.approx(0.9)
    assert momentum_at(0.9, 50, 100) == pytest.approx(0.95)
    assert momentum_at(0.9, 100, 100) == pytest.approx(1)


def test_a_follower_moves_by_exactly_its_momentum() -> None:
    source = torch.nn.Linear(3, 2)
    target = follower(source)
    with torch.no_grad():
        source.weight.add_(1)
    before = target.weight.clone()
    follow(target, source, 0.75)
    assert torch.equal(target.weight, before * 0.75 + source.weight * 0.25)
    assert not target.weight.requires_grad
