"""The sanity check: fresh weights are fresh, seeded, of any depth finite; and correlation is SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from tests.explaining.nets import MEAN, STD, network, photo  # noqa: E402

from resight.attribution import Explained, activations, randomised, sanity, spearman  # noqa: E402
from resight.attribution.gradients import grad_cam  # noqa: E402
from resight.attribution.network import to_tensor  # noqa: E402
from resight.attribution.randomisation import BAD, GOOD, UNTESTED, passed, verdict  # noqa: E402
from resight.models import create  # noqa: E402


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=30))
def test_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, np.float32).T
    found = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_all_weights_are_fresh_and_seeded() -> None:
    explained, square = Explained(network("wide"), MEAN, STD), photo(1)
    first, again, other = (randomised(explained, square, seed) for seed in (1, 1, 2))
    for (name, a), b, c, own in zip(
        first.net.named_parameters(),
        again.net.parameters(),
        other.net.parameters(),
        explained.net.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert not torch.equal(a, c), name
            assert not torch.equal(a, own), name
    assert torch.equal(first.normalize.mean, explained.normalize.mean)


def test_deep_networks_with_random_weights_stay_finite() -> None:
    explained = Explained(create("preact_resnet164", num_classes=4, stem="tiny").eval(), MEAN, STD)
    with torch.no_grad():
        found = randomised(explained, photo(2), 1)(to_tensor(photo(2)))
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) < 1e3


def test_a_map_of_edges_is_found_out() -> None:
    """A method that does not ask the network gives the same map whatever its weights."""
    explained, square = Explained(network("cifar"), MEAN, STD), photo(3)

    def edges(_: Explained, pixels: np.ndarray, target: int) -> np.ndarray:
        return np.abs(np.diff(pixels.astype(np.float32).sum(axis=2), axis=0))

    heat = edges(explained, square, 0)
    assert sanity(edges, explained, square, 0, heat=heat) == pytest.approx(1)
    assert verdict(1.0) == BAD
    heat = grad_cam(explained, square, 0)
    assert verdict(sanity(grad_cam, explained, square, 0, heat=heat)) == GOOD


def test_activations_are_named_and_not_repeated() -> None:
    plain = activations(Explained(network("cifar"), MEAN, STD), photo(4))
    assert list(plain) == ["stem", "stage1", "stage2", "stage3"]
    assert plain["stage3"].shape == (64, 8, 8)
    preactivated = activations(Explained(network("preactivation"), MEAN, STD), photo(4))
    assert list(preactivated) == ["stem", "stage1", "stage2", "stage3", "features"]


def test_a_constant_map_is_not_tested_and_an_inverse_one_does_not_pass() -> None:
    assert verdict(None) == UNTESTED
    assert not passed(None)
    assert verdict(-1.0) == verdict(1.0) == BAD
    assert verdict(-0.1) == GOOD
