"""Class activation maps: the sum that they are, and networks that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from tests.inference.tiny import make_run

from resight.errors import RunError
from resight.explaining import Head, check_head, class_activation, read_head
from resight.runs import WEIGHTS, Run


def test_the_mean_of_the_map_and_the_bias_is_the_logit() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5, 16, 3, 4)).astype(np.float32)
    head = Head(generator.normal(size=(7, 16)).astype(np.float32), generator.normal(size=7).astype(np.float32))
    logits = features.mean(axis=(2, 3)) @ head.weights.T + head.bias
    check_head(features, logits, head)
    for k in range(7):
        heat = class_activation(features, np.repeat(head.weights[[k]], 5, axis=0))
        assert heat.shape == (5, 3, 4)
        np.testing.assert_allclose(heat.mean(axis=(1, 2)) + head.bias[k], logits[:, k], atol=1e-5)
        np.testing.assert_allclose(heat[2], sum(w * m for w, m in zip(head.weights[k], features[2], strict=True)), 1e-4)


def test_another_head_is_a_plain_error() -> None:
    """Maximum instead of mean; features of another width."""
    generator = np.random.default_rng(1)
    features = generator.normal(size=(2, 8, 4, 4)).astype(np.float32)
    head = Head(generator.normal(size=(3, 8)).astype(np.float32), np.zeros(3, np.float32))
    with pytest.raises(RunError, match="other logits than the graph"):
        check_head(features, features.max(axis=(2, 3)) @ head.weights.T, head)
    with pytest.raises(RunError, match="the head takes 8"):
        check_head(features[:, :5], np.zeros((2, 3), np.float32), head)


@pytest.mark.parametrize("shape", [(3,), (4, 4), (3, 4, 1, 1)])
def test_weights_without_a_fitting_linear_layer_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"no linear layer 'fc\.weight'"):
        read_head(run)
    unsealed = Run(tmp_path / "run", run.card.__class__(**{**run.card.__dict__, "status": "trained"}))
    tensors = {"fc.weight": np.ones(shape, np.float32), "fc.bias": np.zeros(3, np.float32)}
    (tmp_path / "run" / WEIGHTS).write_bytes(save(tensors))
    with pytest.raises(RunError, match="of 3 classes"):
        read_head(unsealed)
