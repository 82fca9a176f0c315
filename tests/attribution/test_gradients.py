"""Maps by gradients: equal to the graph's map, complete, deterministic, at the right layer, also of frozen networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from tests.explaining.nets import CLASSES, FAMILY, MEAN, STD, make_run, network, photo  # noqa: E402

from resight.attribution import METHODS, Explained, load_network  # noqa: E402
from resight.attribution.gradients import (  # noqa: E402
    grad_cam,
    grad_cam_plus_plus,
    integrated_gradients,
    occlusion,
    smooth_grad,
)
from resight.attribution.network import to_tensor  # noqa: E402
from resight.errors import RunError, WeightsError  # noqa: E402
from resight.explaining import check_head, class_activation, read_head  # noqa: E402
from resight.inference import Predictor  # noqa: E402
from resight.runs import WEIGHTS, Run  # noqa: E402


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "cifar")


def normalised(heat: np.ndarray) -> np.ndarray:
    return heat / np.abs(heat).max()


@pytest.mark.parametrize("kind", FAMILY)
def test_the_map_of_the_graph_is_grad_cam(kind: str, tmp_path: Path) -> None:
    """From ONNX without gradients, and from autograd through all of a network whose parameters are frozen."""
    run = make_run(tmp_path / "run", kind)
    explained = load_network(run)
    explained.net.requires_grad_(False)
    square, head = photo(1), read_head(run)
    features, logits = Predictor(run, threads=1).ask(square[None], ("features", "logits"))
    check_head(features, logits, head)
    for k in range(len(CLASSES)):
        ours = class_activation(features, head.weights[[k]])[0]
        theirs = grad_cam(explained, square, k)
        assert theirs.shape == features.shape[2:]
        assert np.abs(normalised(ours) - normalised(theirs)).max() <= 1e-4
        np.testing.assert_allclose(theirs * theirs.size, ours, atol=1e-4 * np.abs(ours).max())


def test_parameters_may_be_frozen_or_not() -> None:
    square = photo(2)
    for name, method in METHODS.items():
        maps = []
        for frozen in (False, True):
            explained = Explained(network("bottleneck"), MEAN, STD)
            explained.net.requires_grad_(not frozen)
            maps.append(method(explained, square, 1))
            assert not explained.training
            assert all(parameter.grad is None for parameter in explained.parameters())
        np.testing.assert_array_equal(maps[0], maps[1], err_msg=name)
        assert np.abs(maps[0]).max() > 0


def test_copies_for_relus_change_no_answer(cifar: Run) -> None:
    square = photo(3)
    (logits,) = Predictor(cifar, threads=1).ask(square[None], ("logits",))
    found = load_network(cifar)(to_tensor(square)).detach().numpy()
    np.testing.assert_allclose(found, logits, atol=1e-4)


def test_the_features_are_after_the_last_norm_and_relu() -> None:
    """Of a pre-activation network: the map before it has another sign and size."""
    explained = Explained(network("preactivation"), MEAN, STD)
    with torch.no_grad():
        out = explained.net.features(explained.normalize(to_tensor(photo(4))))
    assert explained.last_map is explained.net.norm
    assert float(out["features"].min()) >= 0
    assert float(out["stage3"].min()) < 0


def test_integrated_gradients_are_complete(cifar: Run) -> None:
    """Their sum is the difference of the logits, within 2 % at the 50 points that are taken; closer with more."""
    explained, square = load_network(cifar), photo(5)
    grey = explained.normalize.mean.expand(1, 3, 32, 32)
    with torch.no_grad():
        difference = (explained(to_tensor(square)) - explained(grey))[0]
    for k in range(len(CLASSES)):
        scale = float(difference.abs().max())
        assert integrated_gradients(explained, square, k).sum() == pytest.approx(float(difference[k]), abs=0.02 * scale)
        closer = integrated_gradients(explained, square, k, steps=200).sum()
        assert closer == pytest.approx(float(difference[k]), abs=0.005 * scale)


def test_grad_cam_plus_plus_by_hand(cifar: Run) -> None:
    """Equations 10 to 19 written out: the slope of a logit at each place is the head's weight / places."""
    explained, square = load_network(cifar), photo(6)
    maps = explained.net.features(explained.normalize(to_tensor(square)))["features"][0].detach().numpy()
    expected = np.zeros(maps.shape[1:])
    for k, one in enumerate(maps.astype(np.float64)):
        slope = float(explained.net.fc.weight[2, k].detach()) / one.size
        below = 2 * slope**2 + one.sum() * slope**3
        expected += one.size * slope**2 / below * max(slope, 0) * one
    found = grad_cam_plus_plus(explained, square, 2)
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-3, atol=1e-6)


def test_smooth_grad_is_seeded_and_leaves_the_generator_alone(cifar: Run) -> None:
    explained, square = load_network(cifar), photo(7)
    before = torch.get_rng_state()
    first = smooth_grad(explained, square, 0, samples=4)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, smooth_grad(explained, square, 0, samples=4))
    assert not np.array_equal(first, smooth_grad(explained, square, 0, samples=4, seed=1))
    assert first.min() >= 0


def test_without_noise_it_is_the_gradient(cifar: Run) -> None:
    explained, square = load_network(cifar), photo(8)
    pixels = to_tensor(square).requires_grad_()
    (gradient,) = torch.autograd.grad(explained(pixels)[0, 1], pixels)
    expected = gradient[0].abs().sum(dim=0).numpy()
    np.testing.assert_allclose(smooth_grad(explained, square, 1, samples=5, noise=1e-9), expected, rtol=1e-3, atol=1e-7)


def test_occlusion_against_a_slow_loop(cifar: Run) -> None:
    explained, square = load_network(cifar), photo(9)
    base = explained.normalize.mean
    total, covered = np.zeros((32, 32)), np.zeros((32, 32))
    with torch.no_grad():
        whole = float(explained(to_tensor(square))[0, 3])
        for top in range(0, 32 - 16 + 1, 8):
            for left in range(0, 32 - 16 + 1, 8):
                hidden = to_tensor(square)
                hidden[:, :, top : top + 16, left : left + 16] = base
                total[top : top + 16, left : left + 16] += whole - float(explained(hidden)[0, 3])
                covered[top : top + 16, left : left + 16] += 1
    found = occlusion(explained, square, 3, patches=4)
    # captum counts a pixel once for each channel: the sum over channels is three times the mean
    np.testing.assert_allclose(found, 3 * total / covered, atol=1e-3)


def test_changed_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "se")
    (tmp_path / "run" / WEIGHTS).write_bytes(b"other")
    with pytest.raises(RunError, match="changed"):
        load_network(run)


def test_a_head_of_other_classes_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    run = make_run(tmp_path / "run", "se")
    run.card = replace(run.card, classes=("a", "b"))
    with pytest.raises(WeightsError, match="2 classes"):
        load_network(run)
