"""What attention over tiles starts with: the tiles that are unlike all others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resight.models.layers import GatedAttention
from resight.training import rare
from resight.training.rare import SHARPNESS, fit, whiten


def features(count: int = 4000, rare: int = 20) -> torch.Tensor:
    """(count, 12): correlated features with a large mean, as after a ReLU; the first ``rare`` are of another kind."""
    random = np.random.default_rng(2)
    mixing = random.normal(size=(12, 12)) * np.geomspace(5, 0.5, 12)[:, None]
    rows = random.normal(size=(count, 12)) @ mixing + 7
    rows[:rare] += 6 * mixing[-1]  # along a direction that hardly varies: no largest value shows it
    return torch.from_numpy(rows).float()


def mahalanobis(rows: torch.Tensor) -> np.ndarray:
    exact = rows.double().numpy()
    away = exact - exact.mean(0)
    found: np.ndarray = np.einsum("nd,de,ne->n", away, np.linalg.inv(np.cov(away.T)), away)
    return found


def attention(seed: int = 0) -> GatedAttention:
    torch.manual_seed(seed)
    return GatedAttention(12, 32)


def test_whitened_features_have_unit_covariance() -> None:
    mixing = torch.eye(4) + 0.5 * torch.ones(4, 4)
    rows = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) @ mixing + 3
    mean, matrix = whiten(rows)
    np.testing.assert_allclose(np.cov(((rows - mean) @ matrix).numpy().T), np.eye(4), atol=0.02)


def test_the_start_follows_the_distance_in_the_features_as_they_are() -> None:
    rows, start = features(), attention()
    error, spread = fit(start, rows, seed=0)
    assert error < 0.5 * spread
    with torch.no_grad():
        scores = start(rows).numpy()
    target = SHARPNESS * np.log(mahalanobis(rows))
    assert np.corrcoef(scores, target)[0, 1] > 0.7
    order = np.argsort(-scores)
    assert np.mean(order[:20] < 20) > 0.6  # one in two hundred is of another kind
    weights = np.exp(scores - scores.max())
    assert weights[:20].sum() / weights.sum() > 0.25  # sixty times their number


def test_it_is_a_function_of_weights_rows_and_seed() -> None:
    rows, found = features(400, 4), []
    for seed in (0, 0, 1):
        start = attention()
        torch.manual_seed(int(torch.randint(1000, ())))  # whatever others drew
        fit(start, rows, seed)
        found.append(start.V.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_tiles_that_look_alike_start_from_chance() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    _, spread = fit(GatedAttention(4, 8), rows, 0)
    assert spread == pytest.approx(0, abs=1e-9)
    objective = SimpleNamespace(
        config=SimpleNamespace(seed=0), eval=lambda: None, seen=lambda _: rows, net=SimpleNamespace(attention=None)
    )
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rare, "fit", lambda *_: (1e-14, 0.0))
        rare.start_with_rare(objective, [0, 1], said.append)  # type: ignore[arg-type]
    assert said == ["attention starts from chance: 4 tiles of 2 pictures are equally rare"]


def test_features_without_variance_do_no_harm() -> None:
    rows = torch.ones(300, 12)
    rows[:, :3] = torch.randn(300, 3, generator=torch.Generator().manual_seed(3))
    start = attention()
    fit(start, rows, 0)
    assert torch.isfinite(start(rows)).all()
